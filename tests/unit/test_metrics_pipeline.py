"""The metrics pipeline's configuration, and the gate that proves it."""

import os
import subprocess
from pathlib import Path

import pytest

from deploys.metrics import config, page
from deploys.model import Cluster, Host

DATA = {
    "metrics_statsd_port": 8125,
    "metrics_graphite_port": 2003,
    "metrics_http_port": 8428,
    "metrics_retention": "30d",
    "metrics_memory": "1GB",
}
HOSTS = {
    name: Host(name, address, frozenset({group}), DATA)
    for name, address, group in [
        ("proxy1", "192.0.2.11", "proxies"),
        ("app1", "192.0.2.21", "apps"),
        ("fdb1", "192.0.2.31", "fdb"),
        ("metrics1", "192.0.2.41", "metrics"),
    ]
}
CLUSTER = Cluster(HOSTS, DATA)


def test_the_daemon_listens_on_loopback_and_reports_to_the_store():
    conf = config.daemon_files(CLUSTER, HOSTS["app1"])[config.DAEMON_CONF].content
    assert 'Hostname "app1"' in conf
    assert 'Host "127.0.0.1"\n  Port "8125"' in conf
    assert 'Host "192.0.2.41"\n    Port "2003"' in conf
    assert "StoreRates false" in conf


def test_the_daemon_counts_its_own_start():
    drop_in = config.daemon_files(CLUSTER, HOSTS["app1"])[config.DAEMON_DROP_IN].content
    assert f"{config.HEARTBEAT}:1|c" in drop_in and "/dev/udp/127.0.0.1/8125" in drop_in


def test_the_stores_arguments():
    arguments = config.store_files(HOSTS["metrics1"])[config.STORE_ARGUMENTS].content
    assert "-graphiteListenAddr=192.0.2.41:2003" in arguments
    assert "-retentionPeriod=30d" in arguments and "-memory.allowedBytes=1GB" in arguments
    assert f"-relabelConfig={config.STORE_RELABELLING}" in arguments
    assert config.STORE_RELABELLING in config.store_files(HOSTS["metrics1"])


def test_hosts_that_report():
    assert [host.name for host in config.reporting(CLUSTER)] == ["proxy1", "app1", "metrics1"]


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """A curl that answers as the store would."""

    def put(*hosts: str, code: int = 0) -> None:
        result = ",".join(f'{{"metric":{{"host":"{host}"}},"value":[1,"1"]}}' for host in hosts)
        (tmp_path / "curl").write_text(f"#!/bin/sh\necho '{{\"result\":[{result}]}}'\nexit {code}\n")
        (tmp_path / "curl").chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return put


def gate() -> subprocess.CompletedProcess[str]:
    command = config.arriving_command(config.reporting(CLUSTER), 8428)
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)


def test_the_gate_passes_once_every_host_is_heard_of(answer):
    answer("metrics1", "app1", "proxy1", "another")
    assert gate().returncode == 0


def test_the_gate_names_hosts_that_are_silent(answer):
    answer("app1", "app11")
    seen = gate()
    assert seen.returncode == 1
    assert seen.stdout.strip() == "nothing received from: metrics1 proxy1"


def test_a_store_that_does_not_answer_is_no_pass(answer):
    answer(code=7)
    assert gate().returncode == 1


def test_templates_are_all_used():
    templates = {path.name for path in config.TEMPLATES.iterdir()}
    source = Path(config.__file__).read_text() + Path(page.__file__).read_text()
    assert all(f'"{name}"' in source for name in templates)
