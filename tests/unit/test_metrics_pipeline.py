"""The metrics pipeline's configuration, and the gate that proves it."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.pki import places
from deploys.foundationdb import cluster_file, status
from deploys.foundationdb.status import Limits
from deploys.metrics import config, exporter, page
from tests.unit import stores
from tests.unit.clusters import cluster
from tests.unit.etcds import Etcds
from tests.unit.statsd import Daemon

DATA = Path(__file__).parent / "data" / "fdb_status"
SEED = cluster_file.parse("prod:0123@192.0.2.31:4500", "here")
CLUSTER = cluster(store_engine="fdb")
HOSTS = CLUSTER.hosts
LIMITS = Limits(
    replicas=3, zone_failures=2, processes=frozenset({"192.0.2.31:4500"}), configuration=("triple", "ssd")
)


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
    arguments = config.store_files(CLUSTER, HOSTS["metrics1"])[config.STORE_ARGUMENTS].content
    assert "-graphiteListenAddr=192.0.2.41:2003" in arguments
    assert "-retentionPeriod=30d" in arguments and "-memory.allowedBytes=1GB" in arguments
    assert f"-relabelConfig={config.STORE_RELABELLING}" in arguments
    # Each daemon's connection holds one of these: with fewer than hosts, some are never heard.
    (inserts,) = re.findall(r"-maxConcurrentInserts=(\d+)", arguments)
    assert int(inserts) > len(HOSTS)
    assert config.STORE_RELABELLING in config.store_files(CLUSTER, HOSTS["metrics1"])


def test_hosts_that_report():
    assert [host.name for host in config.reporting(CLUSTER)] == list(HOSTS)


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
    answer("another", *HOSTS)
    assert gate().returncode == 0


def test_the_gate_names_hosts_that_are_silent(answer):
    answer("app11", *(HOSTS.keys() - {"proxy1", "app1"}))
    seen = gate()
    assert seen.returncode == 1
    assert seen.stdout.strip() == "nothing received from: app1 proxy1"


def test_a_store_that_does_not_answer_is_no_pass(answer):
    answer(code=7)
    assert gate().returncode == 1


def test_templates_are_all_used():
    templates = {path.name for path in config.TEMPLATES.iterdir()}
    source = Path(config.__file__).read_text() + Path(page.__file__).read_text()
    assert all(f'"{name}"' in source for name in templates)


def samples(text: str | None, limits: Limits = LIMITS) -> dict[str, float]:
    """What the exporter makes of a document: {series: value}."""
    document = status.parse(text) if text else None
    lines = exporter.database(document, limits)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_healthy_database_is_up_and_its_gates_are_green():
    seen = samples((DATA / "healthy.json").read_text())
    assert seen["griddle_fdb_up{}"] == 1
    gates = {name: value for name, value in seen.items() if name.startswith("griddle_fdb_gate")}
    assert len(gates) > 15
    assert gates['griddle_fdb_gate{gate="data healthy"}'] == 1
    assert seen['griddle_fdb_lag_seconds{kind="durability"}'] == pytest.approx(5.02158)
    assert seen['griddle_fdb_queue_bytes{role="log"}'] == 316
    assert seen['griddle_fdb_per_second{what="released"}'] == pytest.approx(3.35903)
    versions = [name for name in seen if name.startswith("griddle_fdb_process{")]
    assert len(versions) == 5 and all('version="7.3.' in name for name in versions)


@pytest.mark.parametrize("text", [None, "no_quorum.json"])
def test_a_database_that_is_down_is_said_to_be_down(text):
    seen = samples((DATA / text).read_text() if text else None)
    assert seen["griddle_fdb_up{}"] == 0
    assert seen['griddle_fdb_gate{gate="available"}'] == 0
    assert not any("per_second" in name for name in seen)


def etcd_samples(members: dict) -> dict[str, float]:
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in exporter.alarms(members))}


def test_alarms_of_etcd_are_said_by_host_and_so_is_that_there_are_none():
    raised = {"errors": ["memberID:17 alarm:NOSPACE ", "memberID:255 alarm:NOSPACE ", "etcdserver: no leader"]}
    app1, app2 = {"header": {"member_id": "17"}}, {"header": {"member_id": "18"}}
    assert set(etcd_samples({"app1": app1, "app2": app2}).values()) == {0}
    assert etcd_samples({}) == {}
    seen = etcd_samples({"app1": app1 | raised, "app2": app2 | raised})
    assert {name for name, value in seen.items() if value} == {
        'griddle_etcd_alarm{host="app1",alarm="NOSPACE"}',
        'griddle_etcd_alarm{host="member ff",alarm="NOSPACE"}',  # one that does not answer
    }
    assert seen['griddle_etcd_alarm{host="app2",alarm="CORRUPT"}'] == 0


def test_members_of_a_real_etcd_are_asked_with_certificates_and_a_dead_one_is_left_out(tmp_path):
    if reason := stores.etcd_missing():
        pytest.skip(reason)
    etcds = Etcds(tmp_path, "ab")
    try:
        etcds.bootstrap("a")
        pki = f"{etcds.root('a')}{places.ETCD}"
        urls = {
            name: f"https://{host.address}:{host.data['etcd_client_port']}"
            for name, host in etcds.cluster.hosts.items()
        }
        asked = {"members": urls, "ca": f"{pki}/ca.crt", "cert": f"{pki}/member.crt", "key": f"{pki}/member.key"}
        assert etcd_samples(exporter.ask_members(asked)) == {
            f'griddle_etcd_alarm{{host="a",alarm="{alarm}"}}': 0 for alarm in ("NOSPACE", "CORRUPT")
        }
        etcds.install("a", **{"quota-backend-bytes": str(2**20), "initial-cluster": etcds.peers("a")})
        etcds.servers["a"].stop()
        etcds.start("a")
        etcds.await_leader("a")
        for number in range(12):
            etcds.ctl("a", "put", f"key{number}", "x" * 100_000, check=False)
        seen = etcd_samples(exporter.ask_members(asked))
        assert seen['griddle_etcd_alarm{host="a",alarm="NOSPACE"}'] == 1
    finally:
        etcds.stop()


def test_gates_have_the_same_names_whatever_the_state():
    def names(text):
        return {name for name in samples(text) if name.startswith("griddle_fdb_gate")}

    assert names(None) == names((DATA / "healthy.json").read_text())


def test_the_exporter_runs_from_what_is_deployed_and_survives_an_absent_database_and_store(tmp_path):
    files = config.exporter_files(CLUSTER, config.Database(SEED, LIMITS))
    for path, file in files.items():
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.content)
    conf = tmp_path / config.EXPORTER_CONF.lstrip("/")
    with socket.create_server(("127.0.0.1", 0)) as store:
        port = store.getsockname()[1]
        conf.write_text(conf.read_text().replace(":8428/", f":{port}/"))
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", f"import sys; sys.path[0] = ''; sys.argv = ['', {str(conf)!r}];"
             " from deploys.metrics.exporter import main; main()"],
            cwd=tmp_path / config.EXPORTER_CODE.lstrip("/"),
        )  # fmt: skip
        try:
            store.settimeout(20)
            connection, _ = store.accept()
            with connection:
                connection.settimeout(5)
                received = b""
                while b"\r\n\r\n" not in received or b"griddle_fdb_gate" not in received:
                    received += connection.recv(65536)
        finally:
            process.kill()
            process.wait()
    assert b'griddle_host_expected{host="fdb5",group="fdb"} 1' in received
    assert b"griddle_fdb_up{} 0" in received


def test_etcd_is_asked_on_every_member_and_kept_short():
    text = config.store_files(CLUSTER, HOSTS["metrics1"])[config.STORE_SCRAPING].content
    for number in (1, 2, 3):
        assert f'targets: ["192.0.2.2{number}:2379"]' in text and f"host: app{number}" in text
    assert "action: keep" in text


def test_a_proxys_program_asks_nginx_and_what_it_sends_is_statsd(tmp_path):
    assert config.daemon_files(CLUSTER, HOSTS["proxy1"])[config.HOST_METRICS_UNIT].content.count(" 8125 80\n") == 1
    assert " 8125\n" in config.daemon_files(CLUSTER, HOSTS["fdb1"])[config.HOST_METRICS_UNIT].content
    daemon = Daemon()
    with socket.create_server(("127.0.0.1", 0)) as nginx:
        program = config.HERE / "files" / "host-metrics"
        process = subprocess.Popen(["bash", program, str(daemon.port), str(nginx.getsockname()[1])])
        try:
            nginx.settimeout(20)
            connection, _ = nginx.accept()
            with connection:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):  # closed with some of it unread, the answer would be lost
                    asked += connection.recv(1000)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\n\r\nActive connections: 3 \n"
                    b"server accepts handled requests\n 11 12 130 \nReading: 0 Writing: 1 Waiting: 2 \n"
                )
            deadline = time.monotonic() + 20
            while "griddle.nginx.connections;state=waiting" not in daemon.gauges and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
            daemon.stop()
    seen = daemon.gauges
    assert seen["griddle.nginx.requests"] == 130 and seen["griddle.nginx.connections;state=active"] == 3
    assert seen["griddle.host.run_queue"] >= 1 and seen["griddle.host.softnet;kind=processed"] > 0
