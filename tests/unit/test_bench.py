"""`griddle bench path`: its arithmetic, and that its load shows a server that stalls."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import Failure
from ops.bench import generator, load, report
from ops.bench.generator import Ran, Second, histogram
from ops.bench.processes import Process, cpu_ns, used_us
from ops.bench.stacks import free_ports
from tests.unit.serving import nginx_missing
from tests.unit.stalling import Stalling
from tests.unit.stores import wait_until

ROOT = Path(__file__).resolve().parents[2]
WRK = '  1 threads\n{"requests": 50, "seconds": 2.5, "errors": {"timeout": 0, "wrong_status": 5}}\n'


def parsed(late_ms: float = 0.1, p99_ms: float = 4.0, cpu_share: float = 0.2) -> load.Latency:
    seconds = [Second(0, 100, histogram([(1000, 98), (int(p99_ms * 1000), 2)]))]
    return load.latency(100, Ran([seconds], histogram([(int(late_ms * 1000), 100)]), cpu_share))


def a_round(
    path: str, us: float, p99_ms: float | None = 4.0, *, errors: int = 0, rate: float = 20.0, others: float = 0.0
) -> report.Round:
    return report.Round(
        path=path,
        saturation=load.Saturation(50, rate, {"timeout": errors} if errors else {}),
        cpu_us={"proxy": us / 2, "front": 0.0, "store": us / 2},
        database_us=0.0,
        core_share=0.99,
        others_saturated=others,
        others_open=others,
        latency=replace(parsed(), p99_ms=p99_ms, p50_ms=us),
        store_mb=27.0,
    )


def test_what_wrk_said() -> None:
    assert load.parse_saturation(WRK) == load.Saturation(45, 18.0, {"wrong_status": 5})


def test_a_p99_that_tells_of_the_generator_is_refused() -> None:
    assert (parsed().p50_ms, parsed().p99_ms, parsed().refused) == (1.0, pytest.approx(4.0, rel=0.001), "")
    assert parsed(late_ms=3, p99_ms=20).p99_ms == pytest.approx(20.0, rel=0.001)
    for spoilt in (parsed(late_ms=3), parsed(cpu_share=0.9)):
        assert (spoilt.p50_ms, spoilt.p99_ms) == (None, None)
        assert spoilt.refused


def test_a_row_is_the_round_that_other_work_disturbed_least() -> None:
    rounds = [
        a_round("direct", 60, 9.0, rate=10, others=0.3),
        a_round("direct", 50, 7.0, others=0.01),
        a_round("direct", 40, 5.0, others=0.2, errors=2),
    ]
    row = report.row("memory", rounds)
    assert row["cpu_us_per_request"] == {"proxy": 25.0, "front": 0.0, "store": 25.0, "total": 50.0}
    assert (row["p50_ms"], row["p99_ms"]) == (50, 7.0)
    assert (row["errors"], row["requests_per_second"]) == (2, 20)
    assert {"path", "engine"} <= set(row)


def test_a_row_without_any_p99_says_so() -> None:
    row = report.row("memory", [replace(a_round("go", 40), latency=parsed(late_ms=9.0))])
    assert (row["p50_ms"], row["p99_ms"]) == (None, None)
    assert "?" in report.table([row])


def test_other_work_is_named() -> None:
    row = report.row("memory", [a_round("go", 40, others=0.3)])
    assert [note for note in report.notes([row]) if "30%" in note]
    assert report.notes([report.row("memory", [a_round("go", 40, others=0.01)])]) == []


def test_a_row_without_any_p99_is_noted() -> None:
    row = report.row("memory", [replace(a_round("go", 40), latency=parsed(late_ms=9.0))])
    assert report.notes([row]) == ["go: p50 and p99 are not given: the generator was 9.0 ms late itself"]


def test_lanes_are_compared_with_the_best_peer_and_with_go() -> None:
    costs = {"direct": 50, "wsgi": 100, "falcon": 75, "flask": 500, "go": 40}
    rows = [report.row("memory", [a_round(path, us)]) for path, us in costs.items()]
    assert report.ratios(rows) == [
        "direct: 1.50 times fewer µs than falcon, the best Python peer",
        "direct: 1.25 times the µs of Go",
        "wsgi: 1.33 times the µs of falcon, the best Python peer",
        "wsgi: 2.50 times the µs of Go",
    ]
    lines = report.table(rows).splitlines()
    assert len(lines) == 6
    assert len({len(line) for line in lines}) == 1


def test_cpu_time_counts_every_thread_and_process(tmp_path: Path) -> None:
    busy = (
        "import os, threading, time\n"
        "def spin():\n"
        "    end = time.thread_time() + 0.2\n"
        "    while time.thread_time() < end: pass\n"
        "    time.sleep(60)\n"
        "os.fork()\n"
        "threading.Thread(target=spin).start()\n"
        "time.sleep(60)\n"
    )
    process = Process("front", [sys.executable, "-c", busy], tmp_path / "log", os.sched_getaffinity(0))
    try:
        wait_until("two threads have used 0.2 s each", lambda: process.cpu_ns() > 400e6)
        assert process.cpu_ns() < 2e9
        assert process.resident_mb() > 5
    finally:
        process.stop()
    assert process.ended
    assert process.cpu_ns() == 0
    assert cpu_ns(2**22 + 1) == 0
    assert used_us({"proxy": 1000}, {"proxy": 61_000}, 2) == {"proxy": 30.0}


def test_ports_are_free_and_side_by_side() -> None:
    first = free_ports(3)
    for port in range(first, first + 3):
        socket.create_server(("127.0.0.1", port)).close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler (Debian package gcc)")
    yield generator.build(tmp_path_factory.mktemp("load"))


def measured(program: Path, server: Stalling) -> load.Latency:
    try:
        # fewer connections than requests fall due in the stall: most of them cannot even be sent
        return load.open_loop(program, server.port, "direct", 300, 0.2, 3, profiles=9, connections=4)
    finally:
        server.stop()


def test_the_p99_shows_a_server_that_stalls_for_a_second(program: Path) -> None:
    seen = measured(program, Stalling(450))
    assert seen.errors == {}
    assert 1000 <= seen.max_ms < 3000
    # a third of all requests fell due within the second; sent one by one, only 4 of 900 would have met it
    assert seen.p99_ms is not None, seen.refused
    assert seen.p99_ms > 800
    assert seen.p50_ms < 500


def test_a_server_that_does_not_stall_has_no_such_p99(program: Path) -> None:
    seen = measured(program, Stalling(None))
    assert seen.errors == {}
    assert seen.max_ms < 1000
    assert 250 < seen.rate < 350


def test_wrong_answers_are_errors(program: Path) -> None:
    seen = measured(program, Stalling(None, status="503 Service Unavailable"))
    assert seen.errors["status_503"] > 700


def test_a_server_that_is_not_there_is_said(program: Path) -> None:
    with pytest.raises(Failure, match="connect"):
        load.open_loop(program, free_ports(1), "direct", 100, 0, 1, profiles=1, connections=1)


@pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))
@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed (Debian package wrk)")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is too few for a path and its load")
def test_both_lanes_in_a_few_seconds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "bench", "path", "--quick", "--json"], cwd=ROOT, text=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(row["path"], row["engine"]) for row in document["rows"]] == [("direct", "memory"), ("wsgi", "memory")]
    for row in document["rows"]:
        assert set(row["cpu_us_per_request"]) == {"proxy", "front", "store", "total"}
        # a machine that does other work may make reads later than their deadline, but not most of them
        assert 0 <= row["errors"] < row["requests_per_second"], done.stderr
    saved = Path(done.stderr.strip().rpartition("saved: ")[2])
    assert json.loads(saved.read_text())["rounds"]["memory"]["direct"]
    assert "CPU time of a request" in saved.with_suffix(".html").read_text()
    saved.unlink()
    saved.with_suffix(".html").unlink()
