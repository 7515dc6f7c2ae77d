"""What clients of a proxy feel when it loses one of three app hosts: network namespaces, without a lab."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from deploys.proxy.nginx import NginxValues, lua_files, nginx_conf
from ops.process import die_with_parent
from tests.lab.conftest import HANGS_SECONDS
from tests.unit.serving import NGINX, ROOT, nginx_missing
from tests.unit.stores import free_port, wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or nginx_missing() is not None, reason="needs root, and nginx with Lua"
)
STORES, FRONTS = (7000, 7001), (8000, 8001)


class Host:
    """An app host with two store workers and two fronts; its data are its own, and clients do not look at them."""

    def __init__(self, number: int, directory: Path) -> None:
        self.name, self.address = f"loss{os.getpid()}-{number}", f"10.213.{number}.2"
        self.cable, self._gateway = f"loss{number}-{os.getpid() % 10_000}", f"10.213.{number}.1"
        self._directory = directory / self.name
        self._processes: dict[tuple[str, int], subprocess.Popen] = {}

    def start(self) -> None:
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "addr", "add", f"{self._gateway}/30", "dev", self.cable)
        run("ip", "link", "set", self.cable, "up")
        run("ip", "-n", self.name, "addr", "add", f"{self.address}/30", "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", self.name, "link", "set", link, "up")
        self._directory.mkdir()
        configuration = {
            "cluster": {"name": "test"},
            "host": {"name": self.name, "address": self.address},
            "store": {
                "engine": "memory", "workers": len(STORES), "port": STORES[0], "pin": False,
                "ipc": str(self._directory / "s-{slot}-{worker}.ipc"),
            },
            "feed": {"nudge": "ipc://" + str(self._directory / "f-{slot}.ipc")},
            "front": {"workers": len(FRONTS), "port": FRONTS[0]},
        }  # fmt: skip
        (self._directory / "griddle.toml").write_text(tomli_w.dumps(configuration))
        for module in ("store", "run_front"):
            for worker in range(2):
                self.start_worker(module, worker)
        for port in (*STORES, *FRONTS):
            wait_until(f"{self.name} listens", lambda port=port: self._listens(port), HANGS_SECONDS)

    def start_worker(self, module: str, worker: int) -> None:
        inside = ["ip", "netns", "exec", self.name, sys.executable, "-m", f"services.{module}"]
        environment = {
            **os.environ, "GRIDDLE_CONFIG": str(self._directory / "griddle.toml"),
            "GRIDDLE_CONTROL": str(self._directory / "control.json"),
        }  # fmt: skip
        self._processes[module, worker] = subprocess.Popen(
            [*inside, "--slot", "a", "--worker", str(worker)], cwd=ROOT, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )  # fmt: skip

    def kill_front(self, worker: int) -> None:
        """With gunicorn's master, so that there is none for good."""
        master = self._processes["run_front", worker].pid
        for pid in [master, *Path(f"/proc/{master}/task/{master}/children").read_text().split()]:
            os.kill(int(pid), signal.SIGKILL)

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, port), timeout=1):
            return True
        return False

    def cut(self) -> None:
        """No packet reaches it, and nobody says so."""
        rules = "add table inet cut; add chain inet cut input { type filter hook input priority 0; policy drop; }"
        run("ip", "netns", "exec", self.name, "nft", rules)

    def heal(self) -> None:
        run("ip", "netns", "exec", self.name, "nft", "delete table inet cut")

    def lose_power(self) -> None:
        """Its processes end without a word, and the cable is dead."""
        run("ip", "-n", self.name, "link", "set", "eth0", "down")
        self.stop_workers()

    def stop_workers(self) -> None:
        for pid in run("ip", "netns", "pids", self.name).split():
            os.kill(int(pid), signal.SIGKILL)
        for process in self._processes.values():
            process.wait()

    def remove(self) -> None:
        self.stop_workers()
        run("ip", "netns", "del", self.name)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    made: list[Host] = []
    try:
        for number in range(3):
            made.append(Host(number, tmp_path_factory.getbasetemp()))
            made[-1].start()
        yield made
    finally:
        for host in made:
            host.remove()


@pytest.fixture(scope="module")
def proxy(hosts: list[Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx of two workers."""
    directory, port = tmp_path_factory.mktemp("proxy"), free_port()
    (directory / "lua").mkdir()
    for name, content in lua_files().items():
        (directory / "lua" / name).write_text(content)
    upstreams = [
        {
            "host": host.name, "address": host.address, "slot": "a", "release": "dev", "store_ports": STORES,
            "front_ports": FRONTS,
        }
        for host in hosts
    ]  # fmt: skip
    (directory / "griddle.json").write_text(json.dumps({"proxy": {"lane_override": True, "upstreams": upstreams}}))
    values = NginxValues(
        fronts=6, stores=6, default_release="dev", config_json="griddle.json", listen=f"127.0.0.1:{port}",
        user="root", worker_processes="2", worker_connections=1024, file_limit=2048, reuseport=False,
        temp=str(directory),
        **{name: str(directory / name) for name in ("pid", "error_log", "access_log")},
    )  # fmt: skip
    (directory / "nginx.conf").write_text(nginx_conf(values))
    command = [NGINX, "-p", f"{directory}/", "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, preexec_fn=die_with_parent)
    wait_until("all serve", lambda: {answer(port, *one) for one in REQUESTS * 20} <= GOOD, HANGS_SECONDS)
    yield port
    process.terminate()
    process.wait(15)


REQUESTS = (("GET", "direct"), ("GET", "wsgi"), ("PUT", "wsgi"))
GOOD = {204, 404}


def answer(port: int, method: str, lane: str) -> int | str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        body = b'{"name":"Ada"}' if method == "PUT" else None
        connection.request(method, "/v1/profiles/ada" if body else "/v1/profiles/nobody", body, {"X-Lane": lane})
        return connection.getresponse().status
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


@contextlib.contextmanager
def load(port: int) -> Iterator[list[tuple[float, float, str]]]:
    """Reads and writes on both lanes: when those that failed or took 50 ms began and ended, what came of them."""
    seen: list[tuple[float, float, str]] = []
    over = threading.Event()

    def ask(method: str, lane: str) -> None:
        while not over.wait(0.06):
            began = time.monotonic()
            status = answer(port, method, lane)
            ended = time.monotonic()
            if status not in GOOD or ended - began > 0.05:
                seen.append((began, ended, f"{method} {lane} {status}"))

    threads = [threading.Thread(target=ask, args=one) for one in REQUESTS * 3]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("how", ["cut off", "one front", "without power"])
def test_a_loss_fails_no_more_than_what_was_in_flight(hosts: list[Host], proxy: int, how: str) -> None:
    host = hosts[0]
    with load(proxy) as seen:
        time.sleep(1)
        lost = time.monotonic()
        if how == "cut off":
            host.cut()
        elif how == "without power":
            host.lose_power()
        else:
            host.kill_front(0)
        time.sleep(4)
        if how == "cut off":
            host.heal()
        time.sleep(1)
    failed = [
        (began - lost, ended - began, what) for began, ended, what in seen if not what.endswith(("204", "404"))
    ]
    waited = [(began - lost, ended - began, what) for began, ended, what in seen if began - lost > 1]
    print(f"{how}: failed: {failed}; slower than 50 ms after the first second: {len(waited)}")
    assert [one for one in failed if one[0] > 0] == []
    assert len(failed) <= 3  # writers
