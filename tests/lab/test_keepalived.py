"""The virtual address of one proxy, and of the first of two, by a real keepalived in a network of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploys.model import Cluster
from deploys.proxy import config
from ops import lab
from tests.lab.conftest import HANGS_SECONDS
from tests.unit.clusters import cluster

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


def in_namespace(directory: Path, made: Cluster, script: str) -> None:
    """Runs a shell script as root beside proxy1's keepalived.conf, in a network that has nothing else."""
    if reason := lab.unavailable():
        pytest.skip(f"containers cannot run here: {reason}")
    if not shutil.which("keepalived"):
        pytest.skip("there is no keepalived (Debian package keepalived)")
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
