"""The firewall beside others' tables, and rules that would shut their operator out."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploys.firewall.operations import UNDO_SECONDS
from tests.lab.conftest import Completed, LabUnderTest

HOST = "app1"
APPLY = ["-y", "inventory/lab.py", "deploys/all.py", "--limit", HOST, "--data", "component=firewall"]
IN_FORCE = "ruleset is in force, and lets a new connection in"


def apply(lab: LabUnderTest, *arguments: str, check: bool = True) -> Completed:
    return lab.pyinfra(*APPLY, *arguments, check=check)


def unchanged(done: Completed) -> bool:
    """Whether the ruleset was in force already."""
    return "No changes" in done.stderr.partition(f"operation: firewall | {IN_FORCE}")[2].splitlines()[1]


def rules(lab: LabUnderTest) -> str:
    return lab.ssh(HOST, "sudo nft -n -s list ruleset").stdout


@contextmanager
def rules_without_ssh(lab: LabUnderTest) -> Iterator[None]:
    """The checkout's ruleset has a fault that no look at the data finds."""
    template = lab.checkout / "deploys" / "firewall" / "templates" / "firewall.nft.j2"
    good = template.read_text()
    template.write_text(
        good.replace("{{ match }} counter accept", "{{ match | replace('22', '23') }} counter accept")
    )
    try:
        yield
    finally:
        template.write_text(good)


@pytest.fixture(scope="module", autouse=True)
def applied(lab: LabUnderTest) -> None:
    """The ruleset's own component alone, so that this file can be run by itself."""
    apply(lab, "--data", "component=base,firewall")


def test_other_tables_and_their_configuration_are_left_alone(lab: LabUnderTest) -> None:
    """Also on a host whose /etc/nftables.conf an earlier Griddle had made its own."""
    theirs = "add table inet theirs; add chain inet theirs input { type filter hook input priority 10; }"
    old = "# Written by Griddle (deploys/firewall) for app1."
    lab.ssh(HOST, f"sudo nft '{theirs}'; sudo nft delete table inet griddle")
    lab.ssh(HOST, f"echo '{old}' | sudo tee /etc/nftables.conf >/dev/null; sudo systemctl enable -q nftables")
    apply(lab)
    assert "table inet theirs" in (seen := rules(lab)) and "table inet griddle" in seen
    assert old not in lab.ssh(HOST, "cat /etc/nftables.conf").stdout
    assert lab.ssh(HOST, "systemctl is-enabled nftables", check=False).stdout.strip() == "disabled"

    own = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet own { }\n"
    lab.ssh(HOST, f"printf '{own}' | sudo tee /etc/nftables.conf >/dev/null")
    for verb in ("restart", "reload"):  # each of them flushes every table
        lab.ssh(HOST, f"sudo systemctl {verb} nftables")
        assert "table inet own" in (seen := rules(lab)) and "table inet griddle" in seen, verb
    assert unchanged(apply(lab))
    assert lab.ssh(HOST, "cat /etc/nftables.conf").stdout == own
    lab.ssh(HOST, "sudo nft delete table inet own")


def test_rules_that_do_not_hold_the_operator_s_own_address_are_not_loaded(lab: LabUnderTest) -> None:
    before = rules(lab)
    done = apply(lab, "--data", 'firewall_ssh_from=["198.51.100.0/24"]', check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("griddle: ")]
    assert f"{HOST}: this run comes from" in line and "mend firewall_ssh_from" in line
    assert "Traceback" not in done.stderr and "Starting operation" not in done.stderr
    assert rules(lab) == before


def test_keys_that_do_not_hold_the_operator_s_own_are_not_written(lab: LabUnderTest) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQ0oHVJvlvJwn1f6mj8XzDMfMJrDLzFJ5TCa4hTtC8u"
    done = apply(lab, "--data", "component=base", "--data", f'base_deploy_keys=["{key}"]', check=False)
    assert done.returncode == 2
    assert "is not in base_deploy_keys" in done.stderr and "Starting operation" not in done.stderr
    lab.ssh(HOST, "true")


def test_rules_that_no_new_connection_gets_through_are_taken_back(lab: LabUnderTest) -> None:
    before = rules(lab)
    with rules_without_ssh(lab):
        done = apply(lab, check=False)
    print(done.stderr)
    assert done.returncode == 1
    assert "no new SSH connection came through the new rules" in done.stderr
    assert rules(lab) == before
    assert "dport { 22 }" in lab.ssh(HOST, "cat /etc/griddle/firewall.nft").stdout
    assert unchanged(apply(lab))


@pytest.mark.long
@pytest.mark.parametrize("reboot", [False, True])
def test_an_operator_who_dies_in_the_middle_is_let_in_again(lab: LabUnderTest, reboot: bool) -> None:
    """By the host's own timer, or by its boot, which loads what was kept."""
    before = rules(lab)
    with rules_without_ssh(lab):
        process = subprocess.Popen(
            [".venv/bin/pyinfra", *APPLY], cwd=lab.checkout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert any(IN_FORCE in line for line in process.stderr)
        time.sleep(3)  # loaded, and a new connection is being tried
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert lab.ssh(HOST, "true", check=False, seconds=60).returncode != 0, "the rules let a new connection in"
    if reboot:
        lab.griddle("lab", "stop", HOST)
        lab.griddle("lab", "start", HOST)
    started = time.monotonic()
    while lab.ssh(HOST, "true", check=False, seconds=60).returncode:
        assert time.monotonic() - started < UNDO_SECONDS + 60, "nobody comes in again"
    assert rules(lab) == before
    assert unchanged(apply(lab))
