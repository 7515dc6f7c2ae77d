"""deploys/all.py reads as a table; this is what the table does."""

import hashlib
import time

import pytest

from deploys.conductor import lock


@pytest.fixture
def applied(fake):
    # A fake host cannot run a health gate's parser: the store is the one that needs none.
    return fake("deploys/all.py", store_engine="etcd")


def test_tiers_follow_each_other(applied):
    assert applied.returncode == 0, applied.output
    components = []
    for name, _ in applied.operations:
        component = name.partition(" | ")[0]
        if components[-1:] != [component]:
            components.append(component)
    assert components == [
        "base", "firewall", "hosts", "etcd", "metrics", "stores", "proxy", "configuration", "app", "agent",
        "services", "proxy", "proxies", "smoke",
    ]  # fmt: skip


def test_every_host_is_at_every_barrier(applied):
    barriers = [hosts for name, hosts in applied.operations if name.endswith("| ready")]
    assert len(barriers) == 5
    assert all(len(hosts) == 11 for hosts in barriers)


def test_components_are_for_their_groups(applied):
    def ran(prefix):
        return {host for name, hosts in applied.operations if name.startswith(prefix) for host in hosts}

    assert len(ran("base | ")) == 11
    assert ran("app | slot") == {"app1", "app2", "app3"}
    assert ran("agent | the agent") == {"app1", "app2", "app3", "proxy1", "proxy2"}
    assert ran("proxy | ") == {"proxy1", "proxy2"}
    assert ran("smoke | the ") == {"proxy1", "proxy2"} and ran("smoke | etcd") == ran("etcd | no alarm")
    assert ran("etcd | members") == {"app1", "app2", "app3"}
    assert ran("etcd | client certificate") == {"app1", "app2", "app3", "proxy1", "proxy2", "metrics1"}


def test_one_component_can_be_applied_alone(fake):
    run = fake("deploys/all.py", "--data", "component=firewall", store_engine="etcd")
    assert run.returncode == 0, run.output
    assert {name.partition(" | ")[0] for name, hosts in run.operations if "ready" not in name} == {"firewall"}


def test_an_alarm_of_etcd_stops_the_run_before_what_needs_it(fake):
    alarm = {"success": False, "stdout": "memberID:1 alarm:NOSPACE"}
    run = fake("deploys/all.py", store_engine="etcd", responses={"*": {"alarm list": alarm}})
    assert run.returncode == 1 and "alarm:NOSPACE" in run.output and "./griddle etcd disarm" in run.output
    # all members have been restarted by then: a larger quota can be applied
    names = [name for name, _ in run.operations]
    assert names[-1] == "etcd | no alarm is raised" and "etcd | members run the configuration" in names


def test_a_failed_service_keeps_the_proxies_as_they_are(fake):
    run = fake(
        "deploys/all.py",
        store_engine="etcd",
        responses={"app2": {"tar": {"success": False}, "systemctl restart": {"success": False}}},
    )
    assert run.returncode == 1
    assert not any(name.startswith("proxy | ") for name, _ in run.operations)


def test_a_unit_that_runs_and_does_not_serve_stops_the_run(fake):
    """Although nothing has to be done to it."""
    left = "f00d 1 ba5e 1 one/1"
    look = f"""\
inputs f00d 1
stamp nginx.service:{left}
Id=nginx.service
ActiveState=active
InvocationID=one
StateChangeTimestampMonotonic=1
ctime 1 /x
ready nginx.service no"""
    responses = {
        "proxy1": {
            "nginx.service: not ready after": {"success": False, "stdout": "nginx.service: not ready after 30 s"},
            "applied/nginx.service /dev/null": look.replace("ba5e", hashlib.sha256(b"").hexdigest()[:16]),
        }
    }
    run = fake("deploys/all.py", store_engine="etcd", responses=responses)
    assert run.returncode == 1
    assert "proxy1: nginx.service runs with all that it should, and does not serve" in run.output
    assert "keepalived runs" not in run.output


def test_proxies_that_refuse_what_is_to_come_keep_the_app_hosts_as_they_are(fake):
    refused = {"success": False, "stderr": "could not build map_hash"}
    run = fake("deploys/all.py", store_engine="etcd", responses={"proxy1": {"nginx -t": refused}})
    assert run.returncode == 1
    assert "could not build map_hash" in run.output
    assert run.operations[-1][0] == "proxy | nginx: the configuration to come is valid"


def test_a_run_is_marked_with_its_end(fake, tmp_path):
    assert fake("deploys/all.py", "--data", "component=base", store_engine="memory").returncode == 0
    begin, end = marks_of(tmp_path)
    assert 'kind="deploy",title="deploys/all.py component=base"' in begin and 'phase="start"' in begin
    assert 'outcome="done"' in end


def test_a_run_that_a_gate_stops_is_marked_with_what_the_gate_said(fake, tmp_path):
    silent = {"success": False, "stdout": "nothing received from: app2"}
    run = fake("deploys/all.py", store_engine="memory", responses={"metrics1": {"api/v1/query": silent}})
    assert run.returncode == 1
    _, end = marks_of(tmp_path)
    assert 'outcome="failed"' in end and "nothing received from: app2" in end
    assert 'at="metrics | gate: every host\'s StatsD counters arrive"' in end


def test_a_dry_run_is_no_mark(fake, tmp_path):
    fake("deploys/all.py", "--dry", "--data", "component=base", store_engine="memory")
    assert not list((tmp_path / "state").glob("clusters/*/marks.log"))


def marks_of(tmp_path):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        logs = list((tmp_path / "state").glob("clusters/*/marks.log"))
        if logs and len(lines := logs[0].read_text().splitlines()) == 2:
            return sorted(lines, key=lambda line: 'phase="end"' in line)
        time.sleep(0.1)
    raise AssertionError("no marks")


def test_an_apply_beside_another_run_is_refused_and_changes_nothing(fake, held):
    run = fake("deploys/all.py", store_engine="etcd", responses={"*": held})
    assert run.returncode == 2 and run.operations == []
    (line,) = [line for line in run.output.splitlines() if "another run" in line]
    assert "deploys/all.py: another run is changing the cluster: fdb replace, by ada@desk (pid 7) since " in line


def test_one_that_began_at_the_same_moment_is_refused_in_a_line_alone(fake, held):
    """The lock was free when the hosts were asked first, and is not when it is to be taken."""
    (lines,) = held.values()
    run = fake("deploys/all.py", store_engine="etcd", responses={"*": {f"{lock.FILE}.new": lines}})
    assert run.returncode == 2, run.output
    assert run.output.count("another run is changing the cluster: fdb replace, by ada@desk") == 1
    assert "Traceback" not in run.output and "SystemExit" not in run.output, run.output


def test_it_waits_for_as_long_as_it_is_told(fake, held):
    run = fake("deploys/all.py", "--data", "lock_wait=2", store_engine="etcd", responses={"*": held})
    assert run.returncode == 2 and run.operations == []
    assert "waiting up to 2 s for fdb replace, by ada@desk (pid 7)" in run.output


@pytest.mark.parametrize("seconds", ["long", "-1", "true"])
def test_a_time_to_wait_is_a_number(fake, seconds):
    run = fake("deploys/all.py", "--data", f"lock_wait={seconds}", store_engine="etcd")
    assert run.returncode == 2 and run.operations == [] and "lock_wait is " in run.output


def test_a_dry_run_says_who_holds_the_lock_and_goes_on(fake, held):
    run = fake("deploys/all.py", "--dry", store_engine="etcd", responses={"*": held})
    assert run.returncode == 0, run.output
    assert "another run is changing the cluster: fdb replace, by ada@desk (pid 7)" in run.output


def test_hosts_that_cannot_be_asked_for_the_lock_are_said_and_keep_nobody_from_repairing(fake):
    away = {lock.FILE: {"success": False, "stdout": "no space"}}
    run = fake("deploys/all.py", store_engine="etcd", responses={"app1": away, "app2": away})
    assert run.returncode == 0, run.output
    assert "lock: held on 1 of 3 hosts of group etcd: app1: " in run.output
