"""What stops a run, and in which order its tiers go."""

DEPLOY = """
from pyinfra import host
from pyinfra.operations import server
from deploys.framework.gates import barrier, wait_until

if "fdb" in host.groups:
    server.shell(name="fdb | one", commands=["true one"])
    server.shell(name="fdb | two", commands=["true two"])
barrier(name="tier | ready")
if "apps" in host.groups:
    wait_until(name="apps | gate", command="true gate", seconds=5, what="the gate", _serial=True)
    server.shell(name="apps | after", commands=["true after"])
"""


def deploy(tmp_path):
    path = tmp_path / "deploy.py"
    path.write_text(DEPLOY)
    return str(path)


def test_a_tier_starts_after_the_one_before_it_is_done_everywhere(fake, tmp_path):
    run = fake(deploy(tmp_path), store_engine="memory")
    assert run.returncode == 0, run.output
    assert [name for name, _ in run.operations] == [
        "fdb | one", "fdb | two", "tier | ready", "apps | gate", "apps | after",
    ]  # fmt: skip
    assert len(run.operations[0][1]) == 5
    assert len(run.operations[2][1]) == 11


def test_a_failing_gate_stops_everything_at_once(fake, tmp_path):
    failing = {"success": False, "stdout": "the gate: last seen: shut"}
    run = fake(deploy(tmp_path), store_engine="memory", responses={"*": {"true gate": failing}})
    assert run.returncode == 1
    assert "last seen: shut" in run.output
    name, hosts = run.operations[-1]
    assert name == "apps | gate" and hosts == [], "a serial gate went on to other hosts"


def test_a_failing_command_on_one_host_stops_the_run_and_names_the_host(fake, tmp_path):
    run = fake(deploy(tmp_path), store_engine="memory", responses={"fdb3": {"true one": {"success": False}}})
    assert run.returncode == 1
    assert "fdb3" in run.output
    assert [name for name, _ in run.operations] == ["fdb | one"]
