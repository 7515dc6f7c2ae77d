"""`griddle dev`: one nginx, front, feed and store worker each, as child processes on loopback: the inner loop.

No root, no containers; the engine is `memory`, so data last until the store worker restarts, and are then put back
from services.seed. A changed file restarts what it belongs to.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cluster.errors import UserError
from cluster.paths import ROOT, STATE
from cluster.progress import say
from deploys.proxy.nginx import NginxValues, lua_files, nginx_conf
from ops.process import die_with_parent

PORT = 8080
PROFILES = 1000
POLL_SECONDS = 0.5
STOP_SECONDS = 8
NGINX_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
MODULES_DIRECTORY = Path("/usr/lib/nginx/modules")


@dataclass
class Child:
    """A process that is kept running. `prepare` is called before each start, `ready` after it."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    watched: tuple[str, ...]  # glob patterns below the checkout: a change restarts it
    prepare: Callable[[], None] = lambda: None
    ready: Callable[[], None] = lambda: None
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[str] | None = None
    seen: dict[Path, int] = field(default_factory=dict)
    ended: bool = False

    def start(self) -> None:
        self.ended = False
        self.seen = modified(self.watched)
        self.prepare()
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
        threading.Thread(target=relay, args=(self.name, self.process.stdout), daemon=True).start()
        self.ready()

    def stop(self) -> None:
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def has_changed(self) -> bool:
        return modified(self.watched) != self.seen


def dev(port: int = PORT) -> None:
    """Run until Ctrl-C. Raises UserError where nginx or a port is missing."""
    check_nginx()
    _check_ports((port, "HTTP"), (port + 1, "front"), (port + 2, "store"))
    directory = STATE / "dev"
    directory.mkdir(parents=True, exist_ok=True)
    config = configuration(directory, port)
    children = _children(directory, config, port)
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    try:
        for child in children:
            child.start()
        say(f"dev: http://127.0.0.1:{port}/v1/profiles/p1 on both lanes (X-Lane: direct|wsgi). Ctrl-C stops it")
        while True:
            time.sleep(POLL_SECONDS)
            for child in children:
                _tend(child)
    except KeyboardInterrupt:
        say("dev: stopping")
    finally:
        for child in reversed(children):
            child.stop()


def configuration(directory: Path, port: int) -> dict:
    """griddle.toml's content for one machine, see services/config.py."""
    return {
        "cluster": {"name": "dev"},
        "host": {"name": "dev", "address": "127.0.0.1"},
        "store": {
            "engine": "memory",
            "workers": 1,
            "port": port + 2,
            "address": "127.0.0.1",
            "ipc": str(directory / "store-{slot}-{worker}.ipc"),
            "pin": False,
        },
        "feed": {"nudge": f"ipc://{directory}/feed-{{slot}}.ipc"},
        "front": {"workers": 1, "port": port + 1, "address": "127.0.0.1"},
        "proxy": {
            "lane_override": True,
            "upstreams": [
                {
                    "host": "dev",
                    "address": "127.0.0.1",
                    "slot": "a",
                    "release": "dev",
                    "store_ports": [port + 2],
                    "front_ports": [port + 1],
                }
            ],
        },
    }


def nginx_values(directory: Path, port: int) -> NginxValues:
    """The proxies' nginx.conf with one worker, below one's own directory."""
    return NginxValues(
        fronts=1,
        stores=1,
        default_release="dev",
        config_json="griddle.json",
        listen=f"127.0.0.1:{port}",
        user="",
        worker_processes="1",
        worker_connections=512,
        file_limit=1024,
        reuseport=False,
        pid=str(directory / "nginx.pid"),
        error_log="stderr",
        access_log="/dev/stdout",
        log_all=True,
        temp=str(directory / "temp"),
    )


def write_nginx(directory: Path, config: dict, values: NginxValues) -> None:
    """Everything that nginx reads, into its prefix."""
    shutil.rmtree(directory / "lua", ignore_errors=True)
    (directory / "lua").mkdir()
    (directory / "temp").mkdir(exist_ok=True)
    for name, content in lua_files().items():
        (directory / "lua" / name).write_text(content)
    (directory / "griddle.json").write_text(json.dumps(config))
    (directory / "nginx.conf").write_text(nginx_conf(values))


def nginx_command(directory: Path) -> list[str]:
    """nginx in the foreground, with `directory` as its prefix."""
    conf = str(directory / "nginx.conf")
    return [_nginx(), "-p", f"{directory}/", "-c", conf, "-e", "stderr", "-g", "daemon off;"]


def modified(patterns: Iterable[str]) -> dict[Path, int]:
    """{file: time of its last change} of the files that match, below the checkout."""
    found = {}
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            with contextlib.suppress(FileNotFoundError):  # an editor's temporary file
                found[path] = path.stat().st_mtime_ns
    return found


def relay(name: str, lines: IO[str]) -> None:
    """Print a process's output, each line with its name before it."""
    for line in lines:
        print(f"{name:>5} | {line}", end="", flush=True)


def _children(directory: Path, config: dict, port: int) -> list[Child]:
    toml = directory / "griddle.toml"
    environment = {"GRIDDLE_CONFIG": str(toml), "PYTHONUNBUFFERED": "1"}

    def write_configuration() -> None:
        import tomli_w

        toml.write_text(tomli_w.dumps(config))

    def fill() -> None:
        if _listens(port + 2):
            seed = [sys.executable, "-m", "services.seed", "--count", str(PROFILES)]
            subprocess.run(seed, cwd=ROOT, env={**os.environ, **environment}, check=False)

    worker = ["--slot", "a", "--worker", "0"]
    return [
        Child(
            "store", [sys.executable, "-m", "services.store", *worker], environment, ("services/**/*.py",),
            prepare=write_configuration, ready=fill,
        ),
        Child("feed", [sys.executable, "-m", "services.feed", "--slot", "a"], environment, ("services/**/*.py",)),
        Child("front", [sys.executable, "-m", "services.run_front", *worker], environment, ("services/**/*.py",)),
        Child(
            "nginx", nginx_command(directory), environment, ("nginx/**/*.lua", "nginx/*.j2"),
            prepare=lambda: write_nginx(directory, config, nginx_values(directory, port)),
        ),
    ]  # fmt: skip


def _tend(child: Child) -> None:
    """Restart a process whose files have changed; one that ended waits for that."""
    if child.has_changed():
        say(f"dev: {child.name}: files have changed")
        child.stop()
        child.start()
    elif not child.ended and child.process.poll() is not None:
        child.ended = True
        say(f"dev: {child.name} ended with {child.process.returncode}; it starts again when its files change")


def check_nginx() -> None:
    """Raises UserError where nginx or its Lua module is missing."""
    missing = [name for name in NGINX_MODULES if not (MODULES_DIRECTORY / name).exists()]
    if missing or not shutil.which(_nginx()):
        raise UserError("nginx with Lua is missing: apt-get install nginx-light libnginx-mod-http-lua lua-cjson")


def _check_ports(*ports: tuple[int, str]) -> None:
    for port, what in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError) as error:
                raise UserError(f"dev: port {port} ({what}) cannot be used: {error}; try --port") from None


def _listens(port: int) -> bool:
    """Whether somebody does within some seconds; if not, the process has said why."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False


def _nginx() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"  # not in the path of every user


def _interrupt() -> None:
    raise KeyboardInterrupt
