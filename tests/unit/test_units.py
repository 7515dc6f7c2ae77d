import os
import subprocess
import time
from dataclasses import replace

import pytest

from deploys.framework import units
from deploys.framework.units import AS_WANTED, Act, Coming, Read, Stamp, UnitSeen, action

LOOK = """\
inputs 1234567890abcdef 1700000000.5
stamp nginx.service:1234567890abcdef 1700000000.5 aaaa 1600000000.25 f00d/77
stamp of.earlier.service:1234567890abcdef
Id=nginx.service
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
ConditionResult=yes
ConditionTimestampMonotonic=5
FragmentPath=/lib/systemd/system/nginx.service
DropInPaths=/etc/systemd/system/nginx.service.d/griddle.conf
InvocationID=f00d
InactiveExitTimestamp=Wed 2023-11-15 00:00:00.250000 UTC
StateChangeTimestamp=Wed 2023-11-15 00:00:02.500000 UTC
StateChangeTimestampMonotonic=77
ActiveEnterTimestampMonotonic=70
ReloadResult=success

ConditionResult=no
Id=chrony.service
ActiveState=inactive
UnitFileState=enabled
NeedDaemonReload=no
ConditionTimestampMonotonic=7
InactiveExitTimestamp=

Id=of.earlier.service
ActiveState=active
ctime 1600000000.25 /lib/systemd/system/nginx.service
{a}  /lib/systemd/system/nginx.service
ctime 1500000000.25 /etc/systemd/system/nginx.service.d/griddle.conf
{b}  /etc/systemd/system/nginx.service.d/griddle.conf
ready nginx.service no
""".format(a="a" * 64, b="b" * 64)


def test_units_are_parsed_with_their_stamps():
    seen = units.parse_look(LOOK.splitlines())
    nginx = seen["nginx.service"]
    inputs = Read("1234567890abcdef", "1700000000.5")
    assert nginx.stamp == Stamp(inputs, Read("aaaa", "1600000000.25"), "f00d/77")
    assert (nginx.now.inputs, nginx.now.load) == (inputs, "f00d/77")
    assert nginx.now.definition.changed == "1600000000.25"
    assert (nginx.started, nginx.loaded) == (1700006400.25, 1700006402.5)
    assert (nginx.ready, nginx.broken) == (False, True)
    assert seen["chrony.service"].condition_failed
    assert seen["chrony.service"].stamp is None
    assert seen["of.earlier.service"].stamp == Stamp(Read("1234567890abcdef"))


def test_a_reload_that_failed_has_read_nothing():
    seen = units.parse_look(LOOK.replace("ReloadResult=success", "ReloadResult=exit-code").splitlines())
    assert seen["nginx.service"].loaded == seen["nginx.service"].started


AS_LEFT = Stamp(Read("a", "10"), Read("d", "10"), "one/1")
FINE = UnitSeen("active", stamp=AS_LEFT, now=AS_LEFT, started=20.0, loaded=20.0)


def now(*, inputs=AS_LEFT.inputs, definition=AS_LEFT.definition, load=AS_LEFT.load):
    return {"now": Stamp(inputs, definition, load)}


@pytest.mark.parametrize(
    ("seen", "restarting", "reloading"),
    [
        (UnitSeen("inactive"), "start", "start"),
        (UnitSeen("failed"), "start", "start"),
        (FINE, None, None),
        (replace(FINE, enabled="disabled"), "start", "start"),
        (replace(FINE, enabled="static"), None, None),
        # other inputs, another definition: the latter is not taken by a reload
        (replace(FINE, **now(inputs=Read("b", "30"))), "restart", "reload"),
        (replace(FINE, **now(definition=Read("e", "30"))), "restart", "restart"),
        (replace(FINE, needs_daemon_reload=True), "restart", "restart"),
        # nobody knows what it was started with
        (replace(FINE, stamp=None), "restart", "restart"),
        # somebody changed a file, reloaded or restarted, and put the file back; or this run has put it back
        (replace(FINE, loaded=25.0, **now(inputs=Read("a", "30"), load="one/2")), "restart", "reload"),
        (replace(FINE, started=25.0, loaded=25.0, **now(definition=Read("d", "30"), load="two/2")),
         "restart", "restart"),
        # ... or told the process by a signal, which systemd has not seen
        (replace(FINE, **now(inputs=Read("a", "30"))), "restart", "reload"),
        # put back, and then read again: by hand, at a boot, after a crash
        (replace(FINE, loaded=35.0, **now(inputs=Read("a", "30"), load="one/3")), None, None),
        (replace(FINE, started=35.0, loaded=35.0, **now(definition=Read("d", "30"), load="two/1")), None, None),
        # the clock was wrong at the start, and nothing has happened since
        (replace(FINE, started=5.0, loaded=5.0), None, None),
        (replace(FINE, started=5.0, loaded=5.0, **now(load="two/2")), "restart", "restart"),
        # a stamp of an earlier version of these deploys
        (replace(FINE, stamp=Stamp(Read("a"))), None, None),
        (replace(FINE, stamp=Stamp(Read("b"))), "restart", "reload"),
        # this host refuses it
        (replace(FINE, active="inactive", condition_failed=True), None, None),
        (replace(FINE, active="inactive", condition_failed=True, **now(inputs=Read("b"))), "start", "start"),
    ],
)  # fmt: skip
def test_a_unit_is_judged_by_state(seen, restarting, reloading):
    assert verb(seen) == restarting
    assert verb(seen, reload=True) == reloading


def verb(seen, **how):
    act = action(seen, **how)
    return act and act.verb


DEFINED, READ = Coming(definition=("/etc/systemd/system/x.service",)), Coming(inputs=("/etc/x", "/etc/y"))


@pytest.mark.parametrize(
    ("seen", "coming", "act"),
    [
        (FINE, READ, Act("reload", "its input /etc/x changes (and 1 more)")),
        (FINE, DEFINED, Act("restart", "its definition /etc/systemd/system/x.service changes")),
        (FINE, Coming(DEFINED.definition, READ.inputs),
         Act("restart", "its definition /etc/systemd/system/x.service changes")),
        # what is more than a reload as the host is stays so
        (replace(FINE, needs_daemon_reload=True), READ,
         Act("restart", "its definition was changed since it was started")),
        (replace(FINE, stamp=None), READ, Act("restart", "nobody knows what it was started with")),
        (UnitSeen("inactive"), READ, Act("start", "it does not run")),
        # this host has refused it, and may not do so again
        (replace(FINE, active="inactive", condition_failed=True), READ, Act("start", "it does not run")),
        (replace(FINE, active="inactive", condition_failed=True), Coming(), None),
        (AS_WANTED, Coming(), None),
        (AS_WANTED, READ, Act("reload", "its input /etc/x changes (and 1 more)")),
    ],
)  # fmt: skip
def test_files_that_a_run_is_going_to_change_count_in_advance(seen, coming, act):
    assert action(seen, reload=True, coming=coming) == act


def read(*paths):
    done = subprocess.run(["sh", "-c", units.read_command(map(str, paths))], capture_output=True, text=True)
    return Read(*done.stdout.split())


def test_what_is_read_follows_names_contents_and_replacements(tmp_path):
    (tmp_path / "a").write_text("1")
    first = read(tmp_path)
    assert len(first.contents) == 16
    os.utime(tmp_path / "a", (1, 1))
    (tmp_path / "a").write_text("2")
    assert (second := read(tmp_path)).contents != first.contents
    (tmp_path / "b").write_text("2")
    assert read(tmp_path).contents not in (first.contents, second.contents)

    (tmp_path / "b").unlink()
    assert read(tmp_path).contents == second.contents, "as it was"
    assert float(read(tmp_path).changed) > float(second.changed), "and something has happened to it"
    time.sleep(0.02)
    before = time.time()
    time.sleep(0.02)
    (tmp_path / "a").rename(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "a")
    assert float(read(tmp_path / "a").changed) > before
    assert read("/nowhere") == read()


def test_a_slot_that_was_pointed_elsewhere_and_back_has_changed(tmp_path):
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "VERSION").write_text(release)
    (tmp_path / "a").symlink_to("one")
    before = read(tmp_path / "a" / "VERSION")
    time.sleep(0.02)
    for release in ("two", "one"):
        (tmp_path / "a").unlink()
        (tmp_path / "a").symlink_to(release)
    after = read(tmp_path / "a" / "VERSION")
    assert after.contents == before.contents
    assert float(after.changed) > float(before.changed)


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


SYSTEMCTL = """#!/bin/sh
case $* in
*--value*FragmentPath*|*FragmentPath*--value*) echo {fragment} ;;
*--value*) echo {value} ;;
show*) printf 'Id=x.service\nActiveState=active\nFragmentPath={fragment}\nInvocationID={value}\n'
       printf 'StateChangeTimestampMonotonic={value}\nActiveEnterTimestampMonotonic={value}\n'
       echo InactiveExitTimestamp=Wed 2999-11-15 00:00:00.250000 UTC ;;
esac
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Runs a script beside a systemctl that knows one unit, x.service."""
    monkeypatch.setattr(units, "STAMPS", str(tmp_path / "applied"))
    (tmp_path / "x.service").write_text("[Service]")
    (tmp_path / "systemctl").write_text(SYSTEMCTL.format(fragment=tmp_path / "x.service", value="7"))
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "input").write_text("x")

    def run(script):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(("ready", "code", "stamped"), [("true", 0, True), ("echo down; false", 1, False)])
def test_a_unit_is_stamped_only_when_it_is_ready(host, tmp_path, ready, code, stamped):
    """Or the next run would take a unit that never served for done."""
    inputs = [str(tmp_path / "input")]
    done = host(units.act_command("x.service", "restart", inputs, ready=ready, ready_seconds=1))
    assert done.returncode == code, done
    assert (tmp_path / "applied" / "x.service").exists() == stamped


def test_a_look_after_an_act_finds_what_was_stamped(host, tmp_path):
    inputs = [str(tmp_path / "input")]
    assert host(units.act_command("x.service", "restart", inputs)).returncode == 0

    def look(ready="true"):
        return units.parse_look(
            host(units.look_command(["x.service"], inputs, {"x.service": ready})).stdout.splitlines()
        )["x.service"]

    seen = look()
    assert seen.stamp == seen.now
    assert action(seen) is None and not seen.broken
    assert look("false").broken, "it runs with all that it should, and does not serve"
    (tmp_path / "x.service").write_text("[Service]\n")
    assert verb(look(), reload=True) == "restart"
