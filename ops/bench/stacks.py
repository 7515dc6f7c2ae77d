"""What is measured: Griddle's own path with its two lanes, and each peer, behind an nginx on the same core."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomli_w

from cluster.errors import Failure
from cluster.paths import ROOT
from ops import dev
from ops.bench.peers.engine import write_file
from ops.bench.processes import Process
from ops.direct import urlopen
from ops.stores import listens, wait_until

PEERS = Path(__file__).parent / "peers"
ROLES = ("proxy", "front", "store")
READY_SECONDS = 60
# A synchronous worker waits while the store reads: so many of them keep a core busy.
WORKERS = {"memory": 2, "etcd": 8, "fdb": 8}
THREADS = {"memory": 4, "etcd": 16, "fdb": 16}


@dataclass(frozen=True)
class Setting:
    """Where a path runs and what it reads. `store`: the engine's own tables of griddle.toml."""

    directory: Path
    engine: str
    store: Mapping[str, object]
    profiles: int
    core: int


@dataclass
class Running:
    """A started path."""

    port: int = 0
    processes: list[Process] = field(default_factory=list)

    def cpu_ns(self) -> dict[str, int]:
        """By role, of all its processes since they were started."""
        used = dict.fromkeys(ROLES, 0)
        for process in self.processes:
            used[process.role] += process.cpu_ns()
        return used

    def resident_mb(self, role: str) -> float:
        """Memory of a role's processes."""
        return sum(process.resident_mb() for process in self.processes if process.role == role)

    def check(self) -> None:
        for process in self.processes:
            if process.ended:
                raise Failure(f"bench: a process of role {process.role} has ended: {_last_line(process.log)}")


@dataclass(frozen=True)
class Stack:
    """One set of processes and the paths through it: {name of the row: X-Lane of its requests}."""

    rows: Mapping[str, str]
    start: Callable[[Setting, Running], None]
    engines: tuple[str, ...] = ("memory", "etcd", "fdb")

    @contextlib.contextmanager
    def started(self, setting: Setting) -> Iterator[Running]:
        """Runs until the block ends; every row of it answers by then."""
        shutil.rmtree(setting.directory, ignore_errors=True)
        setting.directory.mkdir()
        running = Running()
        try:
            self.start(setting, running)
            for row, lane in self.rows.items():
                wait_until(f"bench: {row} answers", lambda lane=lane: _answers(running, lane), READY_SECONDS)
            yield running
            running.check()
        finally:
            for process in reversed(running.processes):
                process.stop()


def griddle(setting: Setting, running: Running) -> None:
    """One nginx worker, one store worker and some fronts, as `griddle dev` and the deploys configure them."""
    configuration, ports = configured(setting)
    start = _starter(setting, running)
    start("store", [sys.executable, "-m", "services.store", "--slot", "a", "--worker", "0"])
    wait_until("bench: the store worker listens", lambda: _listens(running, configuration["store"]["port"]))
    if setting.engine == "memory":
        fill(setting)
    for worker in range(len(ports)):
        start("front", [sys.executable, "-m", "services.run_front", "--slot", "a", "--worker", str(worker)])
    for port in ports:  # nginx leaves those alone for a second that refuse its first connection
        wait_until("bench: the front listens", lambda port=port: _listens(running, port), READY_SECONDS)
    values = replace(
        dev.nginx_values(setting.directory, running.port),
        fronts=len(ports),
        access_log=str(setting.directory / "access.log"),
        log_all=False,
        worker_connections=4096,
        file_limit=8192,
    )
    dev.write_nginx(setting.directory, configuration, values)
    start("proxy", dev.nginx_command(setting.directory))


def flask(setting: Setting, running: Running) -> None:
    configured(setting)
    port = free_ports(1)
    command = _gunicorn("flask_app", port, "gthread", f"--threads={THREADS[setting.engine]}")
    _starter(setting, running)("front", command)
    _proxy(setting, running, [port])


def fastapi(setting: Setting, running: Running) -> None:
    configured(setting)
    port = free_ports(1)
    _starter(setting, running)(
        "front",
        [
            sys.executable, "-m", "uvicorn", "ops.bench.peers.fastapi_app:application", "--host=127.0.0.1",
            f"--port={port}", "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning",
            "--timeout-keep-alive=120",
        ],
    )  # fmt: skip
    _proxy(setting, running, [port])


def falcon(setting: Setting, running: Running) -> None:
    """Each worker with a port of its own, as our front: a shared one leaves requests behind busy workers."""
    configured(setting)
    first = free_ports(WORKERS[setting.engine])
    ports = [first + worker for worker in range(WORKERS[setting.engine])]
    start = _starter(setting, running)
    for port in ports:
        worker = "services.front_worker.FrontWorker"
        start("front", _gunicorn("falcon_app", port, worker, "--worker-connections=4096"))
    _proxy(setting, running, ports)


def go(setting: Setting, running: Running) -> None:
    program, profiles = setting.directory / "go", setting.directory / "profiles"
    environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(setting.directory.parent / "go-cache")}
    command = ["go", "build", "-o", str(program), str(PEERS / "main.go")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"bench: main.go does not compile: {done.stderr.strip()[-300:]}")
    write_file(profiles, setting.profiles)
    port = free_ports(1)
    _starter(setting, running)("front", [str(program), f"127.0.0.1:{port}", str(profiles)])
    _proxy(setting, running, [port])


OURS = Stack({"direct": "direct", "wsgi": "wsgi"}, griddle)
THEIRS = (
    Stack({"falcon": ""}, falcon),
    Stack({"fastapi": ""}, fastapi),
    Stack({"flask": ""}, flask),
    Stack({"go": ""}, go, engines=("memory",)),
)


def configured(setting: Setting) -> tuple[dict, list[int]]:
    """Writes griddle.toml for one store worker; its content, and the fronts' ports."""
    fronts = WORKERS[setting.engine]
    configuration = dev.configuration(setting.directory, 0)
    store, front = free_ports(1), free_ports(fronts)
    ports = [front + worker for worker in range(fronts)]
    configuration["store"] |= {"engine": setting.engine, "port": store, "pin": True}
    configuration["front"] |= {"workers": fronts, "port": front}
    configuration["proxy"]["upstreams"][0] |= {"store_ports": [store], "front_ports": ports}
    configuration |= setting.store
    (setting.directory / "griddle.toml").write_text(tomli_w.dumps(configuration))
    return configuration, ports


def fill(setting: Setting) -> None:
    """Writes the profiles into the store."""
    done = subprocess.run(
        [sys.executable, "-m", "services.seed", "--count", str(setting.profiles)], cwd=ROOT, text=True,
        env={**os.environ, "GRIDDLE_CONFIG": str(setting.directory / "griddle.toml")}, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise Failure(f"bench: the store could not be filled: {done.stderr.strip()[-300:]}")


PEER_PROXY = """\
worker_processes 1;
worker_rlimit_nofile 4096;
pid {directory}/nginx.pid;
pcre_jit on;
events {{ worker_connections 2048; accept_mutex off; }}
http {{
    access_log off;
    keepalive_timeout 75s;
    keepalive_requests 1000000;
    tcp_nodelay on;
    client_body_temp_path {directory}/temp/body;
    proxy_temp_path {directory}/temp/proxy;
    fastcgi_temp_path {directory}/temp/fastcgi;
    scgi_temp_path {directory}/temp/scgi;
    uwsgi_temp_path {directory}/temp/uwsgi;
    upstream peer {{
        least_conn;
{servers}
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://peer;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


def _proxy(setting: Setting, running: Running, ports: list[int]) -> None:
    """The nginx of the peers: nothing but a kept-alive proxy."""
    running.port = running.port or free_ports(1)
    servers = "\n".join(f"        server 127.0.0.1:{port} max_fails=0;" for port in ports)
    (setting.directory / "temp").mkdir()
    text = PEER_PROXY.format(directory=setting.directory, servers=servers, port=running.port)
    (setting.directory / "nginx.conf").write_text(text)
    for port in ports:
        wait_until("bench: the peer listens", lambda port=port: _listens(running, port), READY_SECONDS)
    _starter(setting, running)("proxy", dev.nginx_command(setting.directory))


def _starter(setting: Setting, running: Running) -> Callable[[str, list[str]], None]:
    """Starts a process of a role on the path's core."""
    running.port = running.port or free_ports(1)

    def start(role: str, command: list[str]) -> None:
        log = setting.directory / f"{role}-{len(running.processes)}.log"
        running.processes.append(
            Process(
                role, command, log, [setting.core],
                GRIDDLE_CONFIG=str(setting.directory / "griddle.toml"), BENCH_PROFILES=str(setting.profiles),
            )
        )  # fmt: skip

    return start


def _gunicorn(module: str, port: int, worker: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "gunicorn", f"ops.bench.peers.{module}:application", f"--bind=127.0.0.1:{port}",
        "--backlog=1024", "--workers=1", f"--worker-class={worker}", "--keep-alive=120", "--timeout=30",
        "--worker-tmp-dir=/dev/shm", "--no-control-socket", *more,
    ]  # fmt: skip


def free_ports(count: int) -> int:
    """The first of `count` consecutive ports, outside of the range from which clients are given theirs."""
    for _ in range(100):
        first = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for port in range(first, first + count):
                probes.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise Failure("bench: no free ports")


def _listens(running: Running, port: int) -> bool:
    running.check()
    return listens(port)


def _answers(running: Running, lane: str) -> bool:
    """Whether a profile comes back, by the path that is meant."""
    running.check()
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.port}/v1/profiles/p1", headers={"X-Lane": lane} if lane else {}
    )
    try:
        with urlopen(request, timeout=5) as answer:
            return b'"id":"p1"' in answer.read() and (not lane or answer.headers["X-Lane"] == lane)
    except (urllib.error.URLError, OSError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][-300:] if lines else "it said nothing"
