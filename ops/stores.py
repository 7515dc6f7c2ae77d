"""Real stores on loopback, for tests and benchmarks: child processes, each with its own directory and ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cluster import artifacts
from cluster.errors import Failure
from ops.process import die_with_parent


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what: str, check: Callable[[], object], seconds: float = 20) -> None:
    """Poll until `check` is true. Raises Failure."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One process that can be stopped, paused and started again on the same data."""

    def __init__(self, command: list[str], log: Path, port: int) -> None:
        self.command, self.log, self.port = command, log, port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, cores: Iterable[int] = ()) -> None:
        """On these cores, or on all."""
        wanted = set(cores) or os.sched_getaffinity(0)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=lambda: (os.sched_setaffinity(0, wanted), die_with_parent()),
            )  # fmt: skip
        wait_until(f"{self.command[0]} listens", lambda: listens(self.port))

    def pause(self) -> None:
        """It keeps its connections, and says nothing: what a cut network looks like from here."""
        os.kill(self.process.pid, signal.SIGSTOP)
        # The signal is on its way when kill() returns: a thread that still runs would answer once more.
        wait_until(f"{self.command[0]} stands still", lambda: _states(self.process.pid) <= {"T"})

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _states(pid: int) -> set[str]:
    """States of a process's threads, as in proc(5)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in tasks}


def etcd_missing() -> str | None:
    """Why there is no etcd here; None where there is."""
    return None if shutil.which("etcd") else "etcd is not installed (Debian package etcd-server)"


def etcd(directory: Path) -> Server:
    """A single member, without TLS."""
    client, peer = free_port(), free_port()
    url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    command = [
        "etcd", "--data-dir", str(directory / "etcd"), "--logger", "zap", "--log-level", "warn",
        "--listen-client-urls", url, "--advertise-client-urls", url,
        "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"default={peer_url}",
    ]  # fmt: skip
    return Server(command, directory / "etcd.log", client)


def fdb_missing() -> str | None:
    """Why there is no FoundationDB here; None where there is."""
    if shutil.which("dpkg-deb") is None:
        return "dpkg-deb is not installed"
    with contextlib.suppress(artifacts.ArtifactError):
        artifacts.resolve(artifacts.default_version(), download=False)
        return None
    return f"FoundationDB's packages are not in {artifacts.CACHE}/artifacts or GRIDDLE_ARTIFACTS"


class Fdb(Server):
    """One fdbserver process with the memory engine, of the version that the inventories ask for."""

    def __init__(self, directory: Path) -> None:
        packages = artifacts.resolve(artifacts.default_version(), download=False)
        self.version = packages.version
        root = directory / "fdb"
        for package in (packages.clients, packages.server):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
        port = free_port()
        self.cluster_file = directory / "fdb.cluster"
        self.cluster_file.write_text(f"test:test@127.0.0.1:{port}\n")
        (self.library,) = root.rglob("libfdb_c.so")
        (self.fdbcli,) = root.rglob("bin/fdbcli")
        (self.fdbserver,) = root.rglob("sbin/fdbserver")
        super().__init__(self._command(directory, port), directory / "fdbserver.log", port)

    def _command(self, directory: Path, port: int) -> list[str]:
        data = directory / f"data-{port}"
        data.mkdir()
        return [
            str(self.fdbserver), "--cluster-file", str(self.cluster_file), "--public-address", f"127.0.0.1:{port}",
            "--datadir", str(data), "--logdir", str(directory), "--memory", "1GiB", "--cache-memory", "200MiB",
        ]  # fmt: skip

    def configure(self, redundancy: str = "single") -> None:
        self._cli(f"configure new {redundancy} memory")
        wait_until("the database is available", lambda: "is available" in self._cli("status minimal"), 60)

    def _cli(self, command: str) -> str:
        arguments = [str(self.fdbcli), "-C", str(self.cluster_file), "--timeout", "20", "--exec", command]
        return subprocess.run(arguments, capture_output=True, text=True).stdout


class FdbNodes(Fdb):
    """Three of them, each a zone and a coordinator, `double`: it goes on without any one."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        ports = [self.port, free_port(), free_port()]
        self.cluster_file.write_text(f"test:test@{','.join(f'127.0.0.1:{port}' for port in ports)}\n")
        others = [
            Server(self._command(directory, port), directory / f"fdbserver-{port}.log", port) for port in ports[1:]
        ]
        self._nodes = [Server(self.command, self.log, self.port), *others]
        for node in self._nodes:
            node.command += ["--locality-zoneid", str(node.port)]

    def start(self, cores: Iterable[int] = ()) -> None:
        for node in self._nodes:
            if node.process is None:
                node.start(cores)

    def stop(self) -> None:
        for node in self._nodes:
            node.stop()

    def kill_one(self) -> None:
        """Another one than the last time."""
        self._nodes.append(self._nodes.pop(0))
        self._nodes[0].stop()

    def configure(self, redundancy: str = "double") -> None:
        super().configure(redundancy)
