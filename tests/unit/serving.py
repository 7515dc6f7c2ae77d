"""The path of a request on loopback, for tests: a store worker, a front, an nginx as child processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tomli_w

from deploys.proxy.nginx import NginxValues, lua_files, nginx_conf
from ops.process import die_with_parent
from tests.unit import stores
from tests.unit.stores import listens, wait_until

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH')}:/usr/sbin")
LUA_MODULE = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")


def nginx_missing() -> str | None:
    if not NGINX or not LUA_MODULE.exists():
        return "nginx with Lua is not installed (Debian packages nginx-light, libnginx-mod-http-lua, lua-cjson)"
    return None


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """One request on a connection of its own. Header names: X_Lane for X-Lane."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    finally:
        connection.close()


@dataclass
class ServingPath:
    """Ports, directory and processes of one path; `workers` store workers, each with a store of its own."""

    directory: Path
    workers: int = 1
    processes: list[subprocess.Popen] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    proxy: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.ports = {"store": _free_range(self.workers), "front": _free_range(1), "nginx": _free_range(1)}
        self.configuration = {
            "cluster": {"name": "test"},
            "host": {"name": "testhost", "address": "127.0.0.1"},
            "store": {
                "engine": "memory", "workers": self.workers, "port": self.ports["store"], "address": "127.0.0.1",
                "ipc": str(self.directory / "s-{slot}-{worker}.ipc"), "pin": False, "deadline_ms": 250,
            },
            "feed": {"nudge": "ipc://" + str(self.directory / "f-{slot}.ipc")},
            "front": {"workers": 1, "port": self.ports["front"], "address": "127.0.0.1"},
            "proxy": {
                "lane_override": True, "control": str(self.control),
                "upstreams": [
                    {
                        "host": "testhost", "address": "127.0.0.1", "slot": "a", "release": "dev",
                        "store_ports": [self.ports["store"] + i for i in range(self.workers)],
                        "front_ports": [self.ports["front"]],
                    }
                ],
                **self.proxy,
            },
        }  # fmt: skip

    def use(self, engine: dict) -> None:
        """Take a real store, as real_store gives it, instead of the memory engine."""
        self.configuration |= engine
        self.configuration["store"]["engine"] = next(iter(engine))

    @property
    def upstream(self) -> dict:
        """Where nginx finds the store workers and fronts."""
        return self.configuration["proxy"]["upstreams"][0]

    @property
    def control(self) -> Path:
        """What an agent would write."""
        return self.directory / "control.json"

    @property
    def ipc(self) -> list[str]:
        return [str(self.directory / f"s-a-{worker}.ipc") for worker in range(self.workers)]

    def run_store(self, worker: int = 0, **store: object) -> subprocess.Popen:
        self._write(**store)
        return self._run("-m", "services.store", "--slot", "a", "--worker", str(worker))

    def start_store(self, worker: int = 0, **store: object) -> subprocess.Popen:
        process = self.run_store(worker, **store)
        wait_until("the store worker listens", lambda: listens(self.ports["store"] + worker))
        return process

    def start_front(self) -> subprocess.Popen:
        self._write()
        process = self._run("-m", "services.run_front", "--slot", "a", "--worker", "0")
        wait_until("the front listens", lambda: listens(self.ports["front"]))
        return process

    def start_feed(self, slot: str = "a") -> subprocess.Popen:
        self._write()
        process = self._run("-m", "services.feed", "--slot", slot)
        wait_until("the feed listens", (self.directory / f"f-{slot}.ipc").exists)
        return process

    def start_nginx(self, **values: object) -> subprocess.Popen:
        (self.directory / "lua").mkdir(exist_ok=True)
        for name, content in lua_files().items():
            (self.directory / "lua" / name).write_text(content)
        (self.directory / "griddle.json").write_text(json.dumps(self.configuration))
        upstreams = self.configuration["proxy"]["upstreams"]
        settings: dict = {
            "fronts": sum(len(upstream["front_ports"]) for upstream in upstreams),
            "stores": sum(len(upstream["store_ports"]) for upstream in upstreams), "default_release": "dev",
            "config_json": "griddle.json", "listen": f"127.0.0.1:{self.ports['nginx']}",
            "user": "" if os.geteuid() else "root",  # its workers read a file of the test's
            "worker_processes": "1", "worker_connections": 256, "file_limit": 1024, "reuseport": False,
            "pid": str(self.directory / "nginx.pid"), "error_log": str(self.directory / "error.log"),
            "access_log": str(self.directory / "access.log"), "temp": str(self.directory),
        }  # fmt: skip
        conf = self.directory / "nginx.conf"
        conf.write_text(nginx_conf(NginxValues(**(settings | values))))
        command = [NGINX, "-p", f"{self.directory}/", "-c", str(conf), "-e", str(self.directory / "error.log")]
        process = self._spawn([*command, "-g", "daemon off;"])
        wait_until("nginx listens", lambda: listens(self.ports["nginx"]))
        return process

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Through nginx."""
        return ask(self.ports["nginx"], method, path, body, **headers)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))

    def _write(self, **store: object) -> None:
        self.configuration["store"] |= store
        (self.directory / "griddle.toml").write_text(tomli_w.dumps(self.configuration))

    def _run(self, *arguments: str) -> subprocess.Popen:
        return self._spawn([sys.executable, *arguments])

    def _spawn(self, command: list[str]) -> subprocess.Popen:
        environment = {
            **os.environ,
            "GRIDDLE_CONFIG": str(self.directory / "griddle.toml"),
            "GRIDDLE_CONTROL": str(self.control),
        }
        with (self.directory / f"{len(self.processes)}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        self.processes.append(process)
        return process


@contextlib.contextmanager
def real_store(kind: str, directory: Path) -> Iterator[tuple[stores.Server, dict]]:
    """A running database and its engine's tables; skips where there is none. Kinds: etcd, fdb, fdb-nodes."""
    if reason := stores.etcd_missing() if kind == "etcd" else stores.fdb_missing():
        pytest.skip(f"{kind}: {reason}")
    if kind == "etcd":
        server = stores.etcd(directory)
        engine: dict = {"etcd": {"endpoints": [f"http://127.0.0.1:{server.port}"]}}
    else:
        server = stores.Fdb(directory) if kind == "fdb" else stores.FdbNodes(directory)
        engine = {"fdb": {"cluster_file": str(server.cluster_file), "client_library": str(server.library)}}
    server.start()
    try:
        if isinstance(server, stores.Fdb):
            server.configure()
        yield server, engine
    finally:
        server.stop()


@contextlib.contextmanager
def serving(kind: str, directory: Path, **path: object) -> Iterator[tuple[ServingPath, stores.Server]]:
    """A whole path on a running database, and that; `path`: what ServingPath is to be besides."""
    with real_store(kind, directory) as (database, engine):
        made = ServingPath(directory / "path", **path)
        made.use(engine)
        try:
            for worker in range(made.workers):
                made.start_store(worker)
            made.start_front()
            made.start_nginx()
            wait_until("it serves", lambda: made.ask("GET", "/readyz").status == 200, 60)
            yield made, database
        finally:
            made.stop()


def _free_range(count: int) -> int:
    """The first of `count` consecutive free ports, below those that outgoing connections are given meanwhile."""
    for _ in range(50):
        first = random.randrange(20_000, 32_000)
        if all(_can_be_bound(first + i) for i in range(count)):
            return first
    raise AssertionError("no free ports")


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
