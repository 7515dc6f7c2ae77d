"""What processes count about themselves, and that counting never stands in a request's way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.proxy.nginx import lua_files
from services import metrics
from services.metrics import Metrics
from tests.unit.serving import ServingPath, nginx_missing
from tests.unit.statsd import Daemon
from tests.unit.stores import free_port, wait_until

PROFILE = b'{"name":"Ada","age":36}'
COLLECTD_NAME_BYTES = 127
needs_nginx = pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.stop()


def counted(port: int) -> Metrics:
    return Metrics("store", "a", 1, "r-1", "127.0.0.1", port)


def test_a_promise_can_be_what_services_and_proxies_count_by() -> None:
    assert f"BOUNDS_MS = {{ {', '.join(map(str, metrics.BOUNDS_MS))} }}" in lua_files()["metrics.lua"]


def test_buckets_are_cumulative_and_an_edge_belongs_to_its_bucket() -> None:
    numbers = counted(9)
    for milliseconds, count in ((0.2, 5), (25, 2), (25.01, 1), (5000, 1)):
        numbers.observe("read", milliseconds, count)
    totals = numbers.totals()
    assert [totals[f"read_ms_bucket;le={le}"] for le in metrics.LES] == [5, 5, 5, 5, 7, 8, 8, 8, 8, 9]
    assert totals["read_ms_count"] == 9
    assert totals["read_ms_sum"] == pytest.approx(5 * 0.2 + 50 + 25.01 + 5000)


def test_a_flush_sends_what_is_new_under_full_names(daemon: Daemon) -> None:
    numbers = counted(daemon.port)
    for _ in range(2):
        numbers.add("refused;status=expired", 3)
        numbers.observe("read", 7)
        numbers.flush()
    numbers.flush()
    labels = ";slot=a;release=r-1"
    wait_until("all has come", lambda: daemon.total("read_ms_count") == 2)
    assert daemon.counters[f"griddle.store.refused;status=expired{labels}"] == 6
    assert daemon.counters[f"griddle.store.read_ms_bucket;le=10{labels}"] == 2
    assert daemon.counters[f"griddle.store.read_ms_bucket;le=5{labels}"] == 0
    assert daemon.gauges == {f"griddle.worker;unit=store;worker=1{labels}": 1}
    assert daemon.longest <= metrics.DATAGRAM_BYTES


def test_what_was_flushed_to_nobody_is_no_burst_later() -> None:
    daemon = Daemon()
    numbers = counted(daemon.port)
    daemon.stop()
    for _ in range(3):
        numbers.add("requests", 1000)
        numbers.flush()
    again = Daemon(daemon.port)
    numbers.flush()  # the kernel reports the closed port once more, to whoever sends next
    numbers.add("requests", 7)
    numbers.flush()
    wait_until("counting goes on", lambda: again.total("requests") == 7)
    again.stop()


def test_a_counters_first_total_is_nought(daemon: Daemon) -> None:
    """Otherwise the first burst of errors is where the series begins, and no rate ever shows it."""
    numbers = counted(daemon.port)
    numbers.add("refused;status=unavailable", 500)
    numbers.flush()
    name = "griddle.store.refused;status=unavailable;slot=a;release=r-1"
    wait_until("the series begins", lambda: name in daemon.counters)
    assert daemon.counters[name] == 0
    numbers.flush()
    wait_until("the burst comes", lambda: daemon.counters[name] == 500)


@pytest.fixture
def serving(tmp_path: Path, daemon: Daemon) -> Iterator[ServingPath]:
    path = ServingPath(tmp_path)
    path.configuration["statsd"] = {"host": "127.0.0.1", "port": daemon.port}
    path.start_store()
    path.start_front()
    yield path
    path.stop()


@needs_nginx
def test_reads_and_writes_are_counted_by_lane_and_outcome(serving: ServingPath, daemon: Daemon) -> None:
    serving.start_nginx(worker_processes="2")  # whose counts add up
    assert serving.ask("PUT", "/v1/profiles/ada", PROFILE).status == 204
    for _ in range(40):
        assert serving.ask("GET", "/v1/profiles/ada", X_Lane="direct").status == 200
    for _ in range(5):
        assert serving.ask("GET", "/v1/profiles/ada", X_Lane="wsgi").status == 200
    assert serving.ask("HEAD", "/v1/profiles/ada/feed").status == 200
    assert serving.ask("GET", "/v1/profiles/nobody").status == 404
    assert serving.ask("GET", "/version").status == 200  # no read of the store
    serving.ask("GET", "/nowhere")

    direct = "griddle.read_ms_count;lane=direct;release=dev;variant=-"
    wait_until("direct reads are counted", lambda: daemon.counters[direct] == 42)
    wait_until("WSGI reads are counted", lambda: daemon.counters[direct.replace("direct", "wsgi")] == 5)
    assert daemon.total("griddle.read_ms_bucket;lane=direct", "le=+Inf") == 42
    # by nginx's clock, of whole milliseconds, five quick reads may take none
    assert "griddle.read_ms_sum;lane=wsgi;release=dev;variant=-" in daemon.counters
    write = "griddle.write_ms_count;lane=wsgi;release=dev;variant=-"
    wait_until("the write is counted", lambda: daemon.counters[write] == 1)
    assert daemon.total("errors") == daemon.total("shed") == 0
    assert "griddle.read_errors;lane=direct;release=dev;variant=-" in daemon.counters  # begun, at 0
    wait_until("the services count, too", lambda: daemon.total("griddle.store.requests") >= 48)
    wait_until("the front does", lambda: daemon.total("griddle.front.answers", "status=200") == 6)
    assert daemon.total("griddle.front.answer_ms_count") == daemon.total("griddle.front.answers")
    alive = {name for name in daemon.gauges if "worker;" in name}
    assert {"griddle.proxy.worker;worker=0", "griddle.proxy.worker;worker=1"} <= alive
    assert "griddle.worker;unit=front;worker=0;slot=a;release=dev" in alive
    assert max(map(len, daemon.counters)) <= COLLECTD_NAME_BYTES


@needs_nginx
def test_what_is_shed_says_why(tmp_path: Path, daemon: Daemon) -> None:
    path = ServingPath(tmp_path)  # with neither store nor front
    path.configuration["statsd"] = {"host": "127.0.0.1", "port": daemon.port}
    path.start_nginx()
    try:
        assert path.ask("GET", "/v1/profiles/ada").status == 503
        assert path.ask("GET", "/v1/profiles/ada", X_Lane="wsgi").status == 503
        assert path.ask("PUT", "/v1/profiles/ada", PROFILE).status == 503
        labels = "release=dev;variant=-"
        wait_until("all has come", lambda: daemon.total("shed") == 3)
        assert daemon.counters[f"griddle.read_shed;lane=direct;{labels};reason=no_worker"] == 1
        assert daemon.counters[f"griddle.read_shed;lane=wsgi;{labels};reason=front"] == 1
        assert daemon.counters[f"griddle.write_shed;lane=wsgi;{labels};reason=front"] == 1
        assert daemon.total("ms_count") == 0
    finally:
        path.stop()


@needs_nginx
def test_nginx_serves_on_without_a_daemon_and_makes_no_burst_of_it(serving: ServingPath) -> None:
    serving.configuration["statsd"]["port"] = port = free_port()
    serving.start_nginx()
    for _ in range(50):
        assert serving.ask("GET", "/v1/profiles/nobody").status == 404
    time.sleep(2.2)  # two flushes into nothing
    late = Daemon(port)
    try:
        wait_until("the worker is heard of", lambda: "griddle.proxy.worker;worker=0" in late.gauges)
        serving.ask("GET", "/v1/profiles/nobody")
        wait_until("counting goes on", lambda: late.total("griddle.read_ms_count") == 1)
    finally:
        late.stop()
    assert "[error]" not in (serving.directory / "error.log").read_text()


@needs_nginx
def test_a_reload_of_nginx_loses_nothing_that_was_answered(serving: ServingPath, daemon: Daemon) -> None:
    nginx = serving.start_nginx()
    for round_ in range(3):
        for _ in range(20):
            serving.ask("GET", "/v1/profiles/nobody")
        os.kill(nginx.pid, signal.SIGHUP)
        wait_until("all is counted", lambda seen=20 * (round_ + 1): daemon.total("griddle.read_ms_count") == seen)


@needs_nginx
def test_labels_from_outside_are_bounded(tmp_path: Path, daemon: Daemon) -> None:
    path = ServingPath(tmp_path)
    path.configuration["statsd"] = {"host": "127.0.0.1", "port": daemon.port}
    program = """
        local metrics = require "metrics"
        for i = 1, 200 do
            metrics.read_direct("r-" .. i, "a;le=1:5|c\\n" .. string.rep("x", 100))
        end
        ngx.say("counted")
    """
    path.start_nginx()
    conf = path.directory / "nginx.conf"
    inside = f"location = /many {{ content_by_lua_block {{ {program} }} }} location = /healthz"
    conf.write_text(conf.read_text().replace("location = /healthz", inside, 1))
    try:
        os.kill(path.processes[0].pid, signal.SIGHUP)
        wait_until("reloaded", lambda: path.ask("GET", "/many").body == b"counted\n")
        wait_until("all has come", lambda: daemon.total("read_ms_count") >= 200)
        names = [name for name in daemon.counters if "read_ms_count" in name]
        assert len(names) == 65
        assert "griddle.read_ms_count;lane=direct;release=other;variant=other" in names
        assert max(map(len, daemon.counters)) <= COLLECTD_NAME_BYTES
    finally:
        path.stop()
