"""The metrics pipeline on real hosts: what is sent by StatsD on any of them is found in the store."""

import json
import time

import pytest

from tests.lab.conftest import LabUnderTest

APPLY = ["-y", "inventory/lab.py", "deploys/all.py", "--data"]
REPORTING = ["app1", "app2", "app3", "metrics1", "proxy1", "proxy2"]
ARRIVAL_SECONDS = 20


@pytest.fixture(scope="module", autouse=True)
def metrics(lab: LabUnderTest) -> None:
    for component in ("base", "firewall", "metrics"):
        lab.pyinfra(*APPLY, f"component={component}")


def count(lab: LabUnderTest, host: str, name: str, by: int = 1) -> None:
    lab.ssh(host, f"bash -c 'printf \"{name}:{by}|c\" >/dev/udp/127.0.0.1/8125'")


def query(lab: LabUnderTest, expression: str) -> dict[str, float]:
    """{host: value} of an instant query."""
    url = "http://127.0.0.1:8428/api/v1/query"
    answer = lab.ssh("metrics1", f"curl -fsS {url} --data-urlencode 'query={expression}'").stdout
    return {each["metric"]["host"]: float(each["value"][1]) for each in json.loads(answer)["data"]["result"]}


def await_values(lab: LabUnderTest, expression: str, expected: dict[str, float]) -> None:
    end = time.monotonic() + ARRIVAL_SECONDS
    while (seen := query(lab, expression)) != expected:
        assert time.monotonic() < end, f"{expression}: {seen}, not {expected}"
        time.sleep(0.5)


def test_a_counter_sent_on_each_host_arrives_under_its_own_name_and_labels(lab: LabUnderTest) -> None:
    for number, host in enumerate(REPORTING, 1):
        count(lab, host, "griddle.test.sent;lane=direct", number)
    await_values(
        lab, 'griddle_test_sent{lane="direct"}', {host: number for number, host in enumerate(REPORTING, 1)}
    )


def test_hosts_report_their_own_health(lab: LabUnderTest) -> None:
    await_values(lab, "count by (host) (load_load_shortterm)", dict.fromkeys(REPORTING, 1))


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
