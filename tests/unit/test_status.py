"""`griddle status`: what is made of what was seen, and that it never waits long."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from cluster import model
from ops import status
from services.engines import etcd_space
from tests.unit.clusters import cluster

CLUSTER = cluster(store_engine="fdb")
ALL_UP = dict.fromkeys(CLUSTER.hosts, True)


def row(q: str, value: float | str, **labels: str) -> dict[str, Any]:
    return {"metric": {"q": q, **labels}, "value": [1.0, str(value)]}


FOUND = [
    row("promise/now/within", 0.9987), row("promise/now/p99_ms", 4.2),
    row("promise/now/reads_per_second", 1234),
    row("promise/now/shed_per_second", 0), row("promise/now/errors_per_second", 2),
    row("promise/hour/within", "NaN"),
    *(row("heard", 1.2, host=name) for name in CLUSTER.hosts if name not in ("app2", "fdb5")),
    row("heard", 7200, host="app2"),
    row("cpu", 34.4, host="proxy1"), row("cpu", 50, host="app2"),
    row("worker", 4, unit="front", slot="a", release="r-1"),
    row("worker", 3, unit="store", slot="a", release="r-1"),
    row("worker", 1, unit="store", slot="b", release="r-2"),
    *(row("etcd", 1, host=f"app{n}", server_version="3.4.23") for n in (1, 3)),
    *(row("etcd_leader", 1, host=f"app{n}") for n in (1, 3)),
    *(row("etcd_quota", 0.01 * n, host=f"app{n}") for n in (1, 3)),
    *(row("etcd_alarm", 0, host=f"app{n}", alarm="NOSPACE") for n in (1, 3)),
    row("fdb_up", 1), row("fdb_gate", 1, gate="available"), row("fdb_gate", 0, gate="data lag, seconds"),
    row("fdb_version", 5, version="7.3.77"),
    row("mark", 1000.0, kind="deploy", title="all", id="x", phase="end", outcome="failed", at="etcd | gate",
        seconds="mine", by="anna"),
    row("mark", 2000.0, kind="flag", title="lane", id="y", phase="point"),
    row("mark_took", 52.1, kind="deploy", title="all", id="x", phase="end", outcome="failed"),
]  # fmt: skip


def seen(found=FOUND, problem=None, **answers: bool) -> dict[str, Any]:
    return status.read(CLUSTER, ALL_UP | answers, found, problem)


def test_a_hosts_state_is_what_both_ways_say() -> None:
    states = {host["name"]: host["state"] for host in seen(app2=False, app1=False)["hosts"]}
    assert states["proxy1"] == "up"
    assert states["app1"] == "unreachable"  # not reached from here, and yet it sends
    assert states["app2"] == "down"
    assert states["fdb5"] == "silent"


def test_numbers_that_nobody_gave_are_null() -> None:
    document = seen()
    assert document["promise"]["now"]["p99_ms"] == 4.2
    assert set(document["promise"]["hour"].values()) == {None}
    cpu = {host["name"]: host["cpu_percent"] for host in document["hosts"]}
    assert (cpu["proxy1"], cpu["app2"], cpu["fdb1"]) == (34.4, None, None)  # app2's is two hours old
    json.dumps(document, allow_nan=False)


def test_the_document_names_releases_versions_gates_and_marks() -> None:
    document = seen()
    assert document["releases"] == [
        {"slot": "a", "release": "r-1", "workers": {"front": 4, "store": 3}},
        {"slot": "b", "release": "r-2", "workers": {"store": 1}},
    ]
    assert document["versions"] == {"foundationdb": {"7.3.77": 5}, "etcd": {"3.4.23": 2}}
    assert document["gates"]["foundationdb"] == {"available": True, "data lag, seconds": False}
    assert [mark["title"] for mark in document["marks"]] == ["lane", "all"]
    assert document["marks"][1] == {
        "at": 1000.0, "seconds": 52.1, "kind": "deploy", "title": "all", "phase": "end", "outcome": "failed",
        "reason": "", "by": "anna",
    }  # fmt: skip


def test_the_screen_fits_and_says_what_is_wrong() -> None:
    painted: list[tuple[str, str]] = []

    def paint(text: str, colour: str) -> str:
        painted.append((text.strip(), colour))
        return text

    text = status.screen(seen(app2=False), paint)
    assert max(map(len, text.splitlines())) <= 80
    assert "99.87 %" in text and "no reads" in text
    red = " ".join(text for text, colour in painted if colour == "red")
    assert "down" in red and "data lag, seconds" in red and "all: failed in 52 s" in red
    assert ("etcd: 2 of 3 members see a leader", "yellow") in painted
    assert "2 h ago" in text and "FLAGS       none" in text


def test_samples_that_lack_a_label_or_a_number_are_no_reason_to_show_nothing() -> None:
    odd = [row(q, "+Inf") for q in ("promise/now/p99_ms", "cpu")]
    odd += [
        row(q, 1.0) for q in ("heard", "worker", "etcd", "etcd_leader", "fdb_gate", "fdb_version", "mark", "new")
    ]
    document = seen(odd)
    json.dumps(document, allow_nan=False)
    assert status.screen(document)


def test_long_names_stand_in_columns() -> None:
    names = {"proxies": [("p", {"address": "192.0.2.1"})], "metrics": [("metrics-1.example.net", {})]}
    ours = model.from_file(Path("prod.py"), names | {"apps": [("a-long-name-of-an-app-host", {})]}, {})
    lines = status.screen(status.read(ours, dict.fromkeys(ours.hosts, True), [], None)).splitlines()
    heads = next(line for line in lines if line.startswith("HOSTS"))
    rows = [line for line in lines if line.strip().split(" ")[0] in ours.hosts]
    assert len(rows) == 3
    assert {line.index("silent") for line in rows} == {heads.index("state")}


def test_the_promise_is_the_inventorys() -> None:
    painted: list[tuple[str, str]] = []
    ours = cluster(metrics_promise_ms=50, metrics_promise_share=0.999)
    status_of = status.read(ours, ALL_UP, FOUND, None)
    text = status.screen(status_of, lambda text, colour: painted.append((text.strip(), colour)) or text)
    assert "within 50 ms" in text and ("99.87 %", "red") in painted


@pytest.mark.parametrize(
    ("quota", "alarm", "expected", "colour"),
    [
        (0.79, 0, "etcd: 79% of the quota used on app1", "green"),
        (0.81, 0, "etcd: 81% of the quota used on app1", "yellow"),
        (0.95, 0, "etcd: 95% of the quota used on app1, the store takes no more", "red"),
        (0.5, 1, "etcd: ALARM NOSPACE on app1, no key can be put", "red"),
        (0.5, None, "etcd: nothing is known of alarms", "yellow"),
    ],
)
@pytest.mark.parametrize("engine", ["fdb", "etcd"])
def test_an_etcd_without_room_is_said_so(quota, alarm, expected, colour, engine) -> None:
    others = [each for each in FOUND if each["metric"]["q"] not in ("etcd_quota", "etcd_alarm")]
    found = [*others, row("etcd_quota", quota, host="app1"), row("etcd_quota", 0.1, host="app2")]
    if alarm is not None:
        found += [row("etcd_alarm", alarm, host="app1", alarm="NOSPACE"), row("etcd_alarm", 0, host="app2")]
    painted: list[tuple[str, str]] = []
    ours = status.read(cluster(store_engine=engine), ALL_UP, found, None)
    text = status.screen(ours, lambda text, colour: painted.append((text, colour)) or text)
    assert any(line.startswith(expected) and seen == colour for line, seen in painted), painted
    assert max(map(len, text.splitlines())) <= 80
    assert ours["gates"]["etcd_alarms"] == {0: [], 1: ["NOSPACE on app1"], None: None}[alarm]


def test_where_the_store_stops_is_where_the_screen_says() -> None:
    assert status.QUOTA_FULL == etcd_space.FULL_SHARE


def test_a_database_that_is_down_is_said_so() -> None:
    down = [each for each in FOUND if not each["metric"]["q"].startswith("fdb")] + [row("fdb_up", 0)]
    assert "FoundationDB is DOWN" in status.screen(seen(down))


def test_without_metrics_the_hosts_are_shown_all_the_same() -> None:
    document = seen([], "metrics1: no answer in 2 s", metrics1=False)
    text = status.screen(document)
    assert "No metrics: metrics1: no answer in 2 s" in text
    states = {host["name"]: host["state"] for host in document["hosts"]}
    assert states["metrics1"] == "down" and states["app1"] == "up"


def test_dead_hosts_and_a_hanging_store_cost_under_three_seconds(tmp_path: Path, monkeypatch) -> None:
    """A listening socket with a full queue answers nothing at all, as a host without power does."""
    ssh = shutil.which("ssh")
    (tmp_path / "ssh").write_text(f'#!/bin/sh\n[ "$1" != -G ] || exec {ssh} "$@"\nexec sleep 30\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        there = {"ssh_hostname": "127.0.0.1", "ssh_port": port}
        hosts = {
            name: model.Host(name, host.address, host.groups, {**host.data, **there})
            for name, host in CLUSTER.hosts.items()
        }
        started = time.monotonic()
        document = status.gather(model.Cluster(hosts, CLUSTER.data))
        assert time.monotonic() - started < 3
        for filler in fillers:
            filler.close()
    assert {host["state"] for host in document["hosts"]} == {"down"}
    assert "metrics1" in document["metrics_problem"]


def test_every_query_is_one_that_can_be_told_apart() -> None:
    text = status.query(50)
    assert text.count("label_set(") == text.count('"q"')
    assert "{w}" not in text and "{{" not in text
    assert text.count('le="50"') == 2


@pytest.mark.parametrize(("seconds", "text"), [(20, "20 s ago"), (150, "2 min ago"), (90000, "1 d ago")])
def test_ages(seconds: float, text: str) -> None:
    assert status._ago(seconds) == text
