"""The virtual address of one proxy and of two, by real keepaliveds in networks of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.model import Cluster
from deploys.proxy import config
from ops import lab
from tests.lab.conftest import HANGS_SECONDS
from tests.unit.clusters import cluster
from tests.unit.stores import wait_until

# A host on a network. Every packet of VRRP that leaves it is counted.
PRELUDE = """
set -eu
ip link add host0 type veth peer name network
ip address add 192.0.2.11/24 dev host0; ip link set host0 up; ip link set network up; ip link set lo up
nft 'table ip seen { chain out { type filter hook output priority 0; ip protocol 112 counter; }; }'
run() { setsid keepalived -n -l -f "$1" -p "$work/pid" -r "$work/vrrp" > "$work/log" 2>&1 & pids=$!; }
pids=; trap 'kill $pids 2>/dev/null; wait' EXIT
has() { ip -o -4 address show dev host0 | grep -q "192.0.2.10/32"; }
within() { tries=0; until has; do tries=$((tries + 1)); [ $tries -lt "$1" ] || return 1; sleep 0.1; done; }
"""


def skip_without_keepalived() -> None:
    if reason := lab.unavailable():
        pytest.skip(f"containers cannot run here: {reason}")
    if not shutil.which("keepalived"):
        pytest.skip("there is no keepalived (Debian package keepalived)")


def in_namespace(directory: Path, made: Cluster, script: str) -> None:
    """Runs a shell script as root beside proxy1's keepalived.conf, in a network that has nothing else."""
    skip_without_keepalived()
    (file,) = config.keepalived_files(made, made.hosts["proxy1"], "host0").values()
    # nginx is not here, and it is not what this is about
    (directory / "ours.conf").write_text(file.data.decode().replace("/usr/bin/curl", "/bin/true #"))
    whole = f"work={directory}\n{PRELUDE}{script}"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", whole], capture_output=True, text=True, timeout=HANGS_SECONDS
    )
    assert done.returncode == 0, f"{done.stderr}\n{(directory / 'log').read_text()}"


def alone() -> Cluster:
    return cluster(without=("proxy2",), proxy_virtual_ip="192.0.2.10")


def test_a_single_proxy_has_the_address_and_sends_nothing_to_anybody(tmp_path: Path) -> None:
    in_namespace(
        tmp_path,
        alone(),
        """
run "$work/ours.conf"
within 300
sleep 2
nft list table ip seen | grep -q 'counter packets 0 ' || { nft list table ip seen >&2; exit 1; }
""",
    )


def test_the_address_stays_when_a_second_proxy_comes_and_goes(tmp_path: Path) -> None:
    """By reloads, as an apply does it: away for as long as the proxies need to find out who has it."""
    pair = cluster(proxy_virtual_ip="192.0.2.10")
    (two,) = config.keepalived_files(pair, pair.hosts["proxy1"], "host0").values()
    (tmp_path / "pair.conf").write_text(two.data.decode().replace("/usr/bin/curl", "/bin/true #"))
    in_namespace(
        tmp_path,
        alone(),
        """
cp "$work/ours.conf" "$work/conf"
run "$work/conf"
within 300
cp "$work/pair.conf" "$work/conf"; kill -HUP $pids; sleep 0.5
within 300
cp "$work/ours.conf" "$work/conf"; kill -HUP $pids; sleep 0.5
within 300
""",
    )


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


class Pair:
    """Two proxies and a client, each a network namespace; a bridge in the client's is their network."""

    def __init__(self, directory: Path) -> None:
        self.names = [f"vrrp{os.getpid()}-{number}" for number in range(3)]
        self._directory = directory
        self._keepaliveds: dict[int, subprocess.Popen[bytes]] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        client = self.names[0]
        try:
            for name in self.names:
                sh(f"ip netns add {name}; ip -n {name} link set lo up")
            sh(f"ip -n {client} link add br0 type bridge; ip -n {client} link set br0 up")
            sh(f"ip -n {client} address add 192.0.2.1/24 dev br0")
            for number in (1, 2):
                self.start(number)
            yield
        finally:
            for name in self.names:
                self._kill(name)
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def start(self, number: int) -> None:
        """A proxy that has just booted: with its own address alone."""
        client, name, made = self.names[0], self.names[number], cluster(proxy_virtual_ip="192.0.2.10")
        directory = self._directory / f"{number}-{time.monotonic_ns()}"
        directory.mkdir()
        host = made.hosts[f"proxy{number}"]
        (file,) = config.keepalived_files(made, host, "host0").values()
        (directory / "conf").write_text(file.data.decode().replace("/usr/bin/curl", "/bin/true #"))
        sh(f"ip link add name p{number} netns {client} type veth peer name host0 netns {name}")
        sh(f"ip -n {client} link set p{number} master br0 up; ip -n {name} link set host0 up")
        sh(f"ip -n {name} address add {host.address}/24 dev host0")
        self._keepaliveds[number] = subprocess.Popen(
            ["ip", "netns", "exec", name, "keepalived", "-n", "-l", "-f", directory / "conf",
             "-p", directory / "pid", "-r", directory / "vrrp"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def holders(self) -> list[int]:
        return [n for n in (1, 2) if "192.0.2.10/32" in sh(f"ip -n {self.names[n]} -o -4 address show")]

    def lose_power(self, number: int) -> None:
        """The cable is dead first, so nothing can be said any more; then its processes end."""
        sh(f"ip -n {self.names[0]} link del p{number}")
        self._kill(self.names[number])
        self._keepaliveds.pop(number).wait()

    @staticmethod
    def _kill(name: str) -> None:
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def answers(self) -> bool:
        """Nobody listens on the port; who has the address says so (curl's exit code 7)."""
        ask = ["ip", "netns", "exec", self.names[0], "curl", "-sm", "0.1", "http://192.0.2.10:1/"]
        return subprocess.run(ask, capture_output=True, check=False).returncode == 7


def test_the_address_is_back_within_a_second_of_a_power_loss(tmp_path: Path) -> None:
    """As a client on the same network sees it. A busy machine may take longer: the least of four counts."""
    skip_without_keepalived()
    pair, gaps = Pair(tmp_path), []
    with pair.running():
        for _ in range(4):
            wait_until("one proxy has the address", lambda: len(pair.holders()) == 1, HANGS_SECONDS)
            wait_until("it answers", pair.answers, HANGS_SECONDS)
            time.sleep(2)  # the other one has heard of it
            (holder,) = pair.holders()
            lost = time.monotonic()
            pair.lose_power(holder)
            wait_until("the other one answers", pair.answers, HANGS_SECONDS)
            gaps.append(time.monotonic() - lost)
            pair.start(holder)
    print("gaps:", ", ".join(f"{gap:.2f} s" for gap in gaps))
    assert min(gaps) < 1
