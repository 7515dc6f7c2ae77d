"""etcd's alarm NOSPACE on the running cluster: who says it, and that `./griddle etcd disarm` ends it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from cluster.pki import places
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest

SMOKE = ("-y", "inventory/lab.py", "deploys/all.py", "--data", "component=smoke")


@pytest.fixture(scope="module", autouse=True)
def cluster(lab: LabUnderTest) -> None:
    lab.griddle("up")


def answer(lab: LabUnderTest, path: str, method: str = "GET", body: bytes | None = None) -> int:
    request = urllib.request.Request(f"http://{lab.plan.virtual_ip}{path}", body, method=method)
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def write(lab: LabUnderTest) -> int:
    return answer(lab, "/v1/profiles/alarmed", "PUT", b'{"name":"Ada"}')


def until(what: str, check: Callable[[], bool], seconds: float = HANGS_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(1)


def test_an_alarm_is_said_by_all_that_look_and_taken_back_by_a_command(lab: LabUnderTest) -> None:
    document = json.loads(lab.griddle("etcd", "status", "--json").stdout)
    on_etcd = json.loads(lab.griddle("status", "--json", "--wait", "30").stdout)["store"] == "etcd"
    member = next(int(row["id"], 16) for row in document["members"] if row["host"] == "app1")
    alarm = json.dumps({"action": "ACTIVATE", "memberID": str(member), "alarm": "NOSPACE"})  # as a full quota does
    lab.ssh(
        "app1",
        f"cd {places.ETCD}; sudo curl --noproxy '*' -fsS --cacert ca.crt --cert member.crt --key member.key"
        f" -d '{alarm}' https://127.0.0.1:2379/v3/maintenance/alarm",
    )
    try:
        if on_etcd:
            until("writes and readiness say that it is full", lambda: write(lab) == 507 == answer(lab, "/readyz"))
        assert answer(lab, "/v1/profiles/p1") == 200
        seen = lab.griddle("etcd", "status", check=False)
        assert seen.returncode == 1 and "NOSPACE" in seen.stdout
        smoke = lab.pyinfra(*SMOKE, check=False)
        assert smoke.returncode == 1
        assert (
            "alarm:NOSPACE" in smoke.stderr + smoke.stdout
            and "./griddle etcd disarm" in smoke.stderr + smoke.stdout
        )

        def alarms() -> list[str]:
            gates = json.loads(lab.griddle("status", "--json", "--wait", "30").stdout)["gates"]
            return gates["etcd_alarms"]

        until("the metrics host knows", lambda: alarms() == ["NOSPACE on app1"])
        assert "ALARM NOSPACE on app1" in lab.griddle("status", "--wait", "30").stdout
        lab.griddle("etcd", "compact")
        lab.griddle("etcd", "defragment")
    finally:
        lab.griddle("etcd", "disarm")
    until("writes go on", lambda: write(lab) == 204)
    assert answer(lab, "/readyz") == 200
    until("the metrics host knows that, too", lambda: alarms() == [])
    lab.pyinfra(*SMOKE)
