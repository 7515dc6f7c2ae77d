import subprocess
import time

import pytest

from deploys import units
from deploys.units import Seen, action

LOOK = """\
inputs 1234567890abcdef
stamp nginx.service:1234567890abcdef
Id=nginx.service
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
ConditionResult=yes
ConditionTimestampMonotonic=5

ConditionResult=no
Id=chrony.service
ActiveState=inactive
UnitFileState=enabled
NeedDaemonReload=no
ConditionTimestampMonotonic=7
"""


def test_units_are_parsed_with_their_stamps():
    seen = units.parse_look(LOOK.splitlines())
    assert seen["nginx.service"] == Seen("active", "enabled", False, False, *["1234567890abcdef"] * 2)
    assert seen["chrony.service"].condition_failed
    assert seen["chrony.service"].stamp == ""


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen("inactive"), "start"),
        (Seen("failed"), "start"),
        (Seen("active", stamp="a", inputs="a"), None),
        (Seen("active", "disabled", stamp="a", inputs="a"), "start"),
        (Seen("active", "static", stamp="a", inputs="a"), None),
        (Seen("active", stamp="a", inputs="b"), "restart"),
        (Seen("active", stamp="", inputs="b"), "restart"),
        (Seen("active", stamp="a", inputs="a", needs_daemon_reload=True), "restart"),
        (Seen("inactive", condition_failed=True, stamp="a", inputs="a"), None),
        (Seen("inactive", condition_failed=True, stamp="a", inputs="b"), "start"),
    ],
)
def test_a_unit_is_restarted_from_state(seen, expected):
    assert action(seen) == expected


def test_reload_only_of_a_process_whose_inputs_are_known():
    assert action(Seen("active", stamp="a", inputs="b"), reload=True) == "reload"
    assert action(Seen("active", stamp="", inputs="b"), reload=True) == "restart"


def test_the_hash_of_inputs_follows_names_and_contents(tmp_path):
    def digest():
        done = subprocess.run(["sh", "-c", units.hash_command([str(tmp_path)])], capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / "a").write_text("1")
    first = digest()
    assert len(first) == 16
    (tmp_path / "a").write_text("2")
    assert (second := digest()) != first
    (tmp_path / "b").write_text("2")
    assert digest() not in (first, second)


def test_a_gate_polls_until_true(tmp_path):
    gate = units.ready_command(f"test -e {tmp_path}/ready", 5, "unit")
    process = subprocess.Popen(["sh", "-c", gate])
    time.sleep(0.3)
    (tmp_path / "ready").touch()
    assert process.wait(timeout=5) == 0


def test_a_gate_that_stays_shut_says_what_it_saw_last():
    gate = units.ready_command("echo unhealthy: no leader; false", 1, "etcd.service")
    done = subprocess.run(["sh", "-c", gate], capture_output=True, text=True, timeout=10)
    assert done.returncode == 1
    assert "etcd.service: not ready after 1 s" in done.stdout
    assert "unhealthy: no leader" in done.stdout


@pytest.mark.parametrize(("ready", "code", "stamped"), [("true", 0, True), ("echo down; false", 1, False)])
def test_a_unit_is_stamped_only_when_it_is_ready(tmp_path, monkeypatch, ready, code, stamped):
    """Or the next run would take a unit that never served for done."""
    monkeypatch.setattr(units, "STAMPS", str(tmp_path / "applied"))
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "input").write_text("x")
    script = units.act_command("x.service", "restart", [str(tmp_path / "input")], ready=ready, ready_seconds=1)
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == code
    assert (tmp_path / "applied" / "x.service").exists() == stamped
    if stamped:
        stamp = (tmp_path / "applied" / "x.service").read_text().strip()
        look = subprocess.run(
            ["sh", "-c", units.hash_command([str(tmp_path / "input")])], capture_output=True, text=True
        )
        assert stamp == look.stdout.strip()
