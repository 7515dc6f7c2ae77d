"""The metrics pipeline on real hosts: what is sent by StatsD on any of them is found in the store."""

import json
import time

import pytest

from cluster.ssh import CURL
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest

APPLY = ["-y", "inventory/lab.py", "deploys/all.py", "--data"]


@pytest.fixture(scope="module", autouse=True)
def metrics(lab: LabUnderTest) -> None:
    lab.pyinfra(*APPLY, "component=base,firewall,etcd,metrics")


@pytest.fixture
def every(lab: LabUnderTest) -> list[str]:
    """All hosts that report."""
    return lab.reporting()


def count(lab: LabUnderTest, host: str, name: str, by: int = 1) -> None:
    lab.ssh(host, f"bash -c 'printf \"{name}:{by}|c\" >/dev/udp/127.0.0.1/8125'")


def query(lab: LabUnderTest, expression: str) -> dict[str, float]:
    """{host: value} of an instant query."""
    url = "http://127.0.0.1:8428/api/v1/query"
    patience = "--retry 20 --retry-delay 1 --retry-connrefused"  # a store that was started a moment ago
    answer = lab.ssh("metrics1", f"{CURL} -f {patience} {url} --data-urlencode 'query={expression}'").stdout
    return {each["metric"]["host"]: float(each["value"][1]) for each in json.loads(answer)["data"]["result"]}


def await_values(lab: LabUnderTest, expression: str, expected: dict[str, float]) -> None:
    end = time.monotonic() + HANGS_SECONDS
    while (seen := query(lab, expression)) != expected:
        assert time.monotonic() < end, f"{expression}: {seen}, not {expected}"
        time.sleep(0.5)


def test_a_counter_sent_on_each_host_arrives_under_its_own_name_and_labels(lab, every) -> None:
    for number, host in enumerate(every, 1):
        count(lab, host, "griddle.test.sent;lane=direct", number)
    await_values(lab, 'griddle_test_sent{lane="direct"}', {host: number for number, host in enumerate(every, 1)})


def test_hosts_report_their_own_health(lab: LabUnderTest, every: list[str]) -> None:
    for name in (
        "load_load_shortterm",
        'protocols_protocol_counter{kind="ListenDrops"}',
        'protocols_protocol_counter{kind="RetransSegs"}',
        'cpu_percent{device="0",kind="idle"}',
        'df_percent_bytes{kind="free",device="root"}',
        "griddle_host_run_queue",
        'griddle_host_softnet{kind="dropped"}',
        "griddle_host_expected",
    ):
        await_values(lab, f"count by (host) ({name})", dict.fromkeys(every, 1))


def test_etcd_is_asked_on_every_member(lab: LabUnderTest) -> None:
    await_values(lab, 'up{job="etcd"}', {"app1": 1, "app2": 1, "app3": 1})
    await_values(lab, "etcd_server_has_leader", {"app1": 1, "app2": 1, "app3": 1})
    assert len(query(lab, 'count by (host) ({job="etcd"})')) == 3


def test_a_store_and_a_daemon_that_were_away_leave_no_spike(lab: LabUnderTest) -> None:
    """Ten counts a second for 16 s, with both away for a while: no rate is ever much above ten."""
    one = 'printf "griddle.test.steady:1|c" >/dev/udp/127.0.0.1/8125; sleep 0.1'
    lab.ssh("app2", f"nohup bash -c 'for i in $(seq 160); do {one}; done' >/dev/null 2>&1 &")
    time.sleep(4)
    lab.ssh("metrics1", "sudo systemctl stop victoria-metrics && sleep 3 && sudo systemctl start victoria-metrics")
    time.sleep(1)
    lab.ssh("app2", "sudo systemctl stop collectd && sleep 2 && sudo systemctl start collectd")
    time.sleep(5)
    (highest,) = query(lab, "max_over_time(rate(griddle_test_steady[3s])[30s:1s])").values()
    assert 1 < highest < 20  # of a busy machine's sender, less than ten


def test_nothing_counted_is_lost_while_the_store_is_down(lab: LabUnderTest) -> None:
    count(lab, "app1", "griddle.test.kept", 1)
    await_values(lab, "griddle_test_kept", {"app1": 1})
    lab.ssh("metrics1", "sudo systemctl stop victoria-metrics")
    count(lab, "app1", "griddle.test.kept", 10)
    time.sleep(3)
    lab.ssh("metrics1", "sudo systemctl start victoria-metrics")
    await_values(lab, "griddle_test_kept", {"app1": 11})


def test_the_daemon_and_the_store_do_not_run_as_root(lab: LabUnderTest) -> None:
    # A dynamic user: without libnss-systemd it has a number only.
    assert lab.ssh("app1", "ps -o user= -C collectd").stdout.split() not in ([], ["root"])
    assert lab.ssh("metrics1", "ps -o user:20= -C victoria-metrics").stdout.split() == ["_victoria-metrics"]


def test_only_this_host_may_talk_to_its_daemon(lab: LabUnderTest) -> None:
    listening = lab.ssh("app1", "ss -lnuH sport = :8125").stdout.split()
    assert "127.0.0.1:8125" in listening
