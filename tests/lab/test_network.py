"""The lab's network beside a container engine that forbids forwarding, in a network namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ops import lab
from tests.lab.conftest import HANGS_SECONDS

CHECKOUT = Path(__file__).resolve().parents[2]

PRELUDE = """
import subprocess
from pathlib import Path
from ops.lab import network
from ops.lab.plan import lab_plan
checkout = Path("/somewhere/griddle")
plan = lab_plan(checkout, with_fdb=True)
def rules():
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
def nft(line):
    subprocess.run(["nft", line], check=True)
nft("add table ip filter")
nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
before = rules()
"""


def in_namespace(script: str) -> None:
    """Runs Python as root in a network namespace that has nothing yet."""
    if reason := lab.unavailable():
        pytest.skip(f"containers cannot run here: {reason}")
    inside = f'mount -t sysfs sysfs /sys && exec {sys.executable} -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", PRELUDE + script],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
    )
    assert done.returncode == 0, done.stderr


def test_up_twice_and_down_leave_the_machine_as_it_was() -> None:
    in_namespace("""
forwarding = network.forwarding()
network.up(checkout, plan)
once = rules()
network.up(checkout, plan)
assert rules() == once, rules()
assert once.count(f'"{plan.bridge}" accept') == 2, once
assert network.bridges(checkout) == [plan.bridge]
assert network.forwarding() == "1"
assert any(str(subnet) == plan.subnet for subnet in network.taken_subnets())
network.down(checkout, {plan.bridge}, forwarding)
assert rules() == before, rules()
assert network.bridges(checkout) == []
assert network.forwarding() == forwarding
network.down(checkout, {plan.bridge}, forwarding)
""")


def test_one_lab_s_down_leaves_another_lab_alone() -> None:
    in_namespace("""
other = Path("/elsewhere/griddle")
network.up(other, lab_plan(other, with_fdb=True))
alone = rules()
network.up(checkout, plan)
network.down(checkout, {plan.bridge}, "0")
assert rules() == alone, rules()
assert network.forwarding() == "1"
assert network.other_labs(checkout)
""")


def test_a_bridge_that_a_killed_up_has_left_without_its_owner_s_name_is_taken_over() -> None:
    in_namespace("""
run = network.run
def killed(*command, **more):
    run(*command, **more)
    if command[:3] == ("ip", "link", "add"):
        raise KeyboardInterrupt
network.run = killed
try:
    network.up(checkout, plan)
except KeyboardInterrupt:
    assert network.bridges(checkout) == []
network.run = run
network.up(checkout, plan)
assert network.bridges(checkout) == [plan.bridge]
""")


def test_an_interface_of_that_name_that_is_not_ours_is_left_alone() -> None:
    in_namespace("""
from cluster.errors import Failure
subprocess.run(["ip", "link", "add", plan.bridge, "type", "bridge"], check=True)
try:
    network.up(checkout, plan)
except Failure as error:
    assert plan.bridge in str(error)
else:
    raise AssertionError("took an interface that is not its own")
""")
