"""Metrics: who gets what, and that the gate comes last."""

DEPLOY = """
from deploys.framework.component import component
from deploys.metrics import deploy as metrics
component(metrics, "metrics", "apps", "proxies", "fdb")
"""
REPORTING = [*(f"app{n}" for n in (1, 2, 3)), *(f"fdb{n}" for n in range(1, 6)), "metrics1", "proxy1", "proxy2"]


def deploy(tmp_path):
    path = tmp_path / "deploy.py"
    path.write_text(DEPLOY)
    return str(path)


def test_every_reporting_host_runs_a_daemon_and_one_host_the_store(fake, tmp_path):
    run = fake(deploy(tmp_path), store_engine="memory")
    assert run.returncode == 0, run.output
    ran = {name: sorted(hosts) for name, hosts in run.operations}
    assert ran["metrics | configuration"] == REPORTING
    assert ran["metrics | the StatsD daemon runs its configuration"] == REPORTING
    assert ran["metrics | what collectd cannot see is sent to it"] == REPORTING
    assert ran["metrics | the store runs its configuration"] == ["metrics1"]
    assert ran["metrics | nginx serves the board"] == ["metrics1"]
    assert ran["metrics | the exporter runs its configuration"] == ["metrics1"]
    assert run.operations[-1] == ("metrics | gate: every host's StatsD counters arrive", ["metrics1"])


def test_the_store_runs_before_the_daemons_report_to_it(fake, tmp_path):
    run = fake(deploy(tmp_path), store_engine="memory")
    store = run.position("metrics | the store runs its configuration")
    assert store < run.position("metrics | the StatsD daemon runs its configuration")


def test_silence_from_a_host_stops_the_run(fake, tmp_path):
    silent = {"success": False, "stdout": "nothing received from: app2"}
    run = fake(deploy(tmp_path), store_engine="memory", responses={"metrics1": {"api/v1/query": silent}})
    assert run.returncode == 1
    assert "nothing received from: app2" in run.output
