"""`griddle bench read` and `bench compare`: against servers on loopback, and their arithmetic."""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import UserError
from ops.bench import charts, compare, generator, html, read, results, where
from ops.bench.generator import Offered, Second, histogram
from ops.cli import main as cli
from tests.unit.stalling import Stalling

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler (Debian package gcc)")


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield generator.build(tmp_path_factory.mktemp("load"))


def measured(server: Stalling, *, ramp: bool = False, **plan: object) -> dict:
    """The result."""
    plan = {
        "rate": 200,
        "seconds": 3,
        "lanes": ("direct",),
        "warm_up": 0.2,
        "connections": 4,
        "profiles": 9,
    } | plan
    target = read.target_of(Path(), f"http://127.0.0.1:{server.port}")
    try:
        return read.bench_read(target, read.Plan(**plan), ramp=ramp, saturate=False, as_json=True)
    finally:
        server.stop()


@needs_compiler
def test_the_p99_shows_a_server_that_stalls_for_a_second(saved: Path) -> None:
    found = measured(Stalling(300))
    seen = found["lanes"]["direct"]
    assert seen["p99_ms"] > 800
    assert 1000 <= seen["max_ms"] < 3000
    assert seen["within_promise"] < 0.8
    assert (found["outcome"], seen["errors"], seen["shed"]) == ("broken", {}, 0)
    (file,) = saved.glob("bench-read-*.json")
    kept = json.loads(file.read_text())["lanes"]["direct"]["seconds"]
    assert len(kept) == 3
    assert max(second["p99_ms"] for second in kept) > 800
    assert "promise was broken" in file.with_suffix(".html").read_text()


@needs_compiler
def test_refusals_with_retry_after_are_shed_and_others_are_errors(saved: Path, program: Path) -> None:
    def seen(server: Stalling) -> Counter[str]:
        try:
            ran = generator.run(program, [Offered("127.0.0.1", server.port, "direct", 100, 0, 1, 9, 4)])
        finally:
            server.stop()
        return generator.merged(ran.seconds[0]).errors

    shed = seen(Stalling(None, "503 Service Unavailable", "Retry-After: 1\r\n"))
    assert set(shed) == {"shed"}
    assert 50 < shed["shed"] < 200
    assert set(seen(Stalling(None, "404 Not Found"))) == {"status_404"}


@needs_compiler
def test_a_server_that_goes_away_is_connect_errors_and_the_load_goes_on(program: Path) -> None:
    server = Stalling(None)

    def leave() -> None:
        server.stop()

    timer = threading.Timer(1.0, leave)
    timer.start()
    ran = generator.run(program, [Offered("127.0.0.1", server.port, "direct", 200, 0, 3, 9, 4, timeout=0.5)])
    timer.join()
    first, *_, last = ran.seconds[0]
    assert first.good > 100
    assert (last.good, len(ran.seconds[0])) == (0, 3)
    errors = generator.merged(ran.seconds[0]).errors
    assert errors["connect"] > 100, errors
    assert set(errors) <= {"connect", "broken_connection", "timeout", "not_answered"}


@needs_compiler
def test_what_is_never_answered_counts_with_the_time_it_waited(program: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        ran = generator.run(
            program, [Offered("127.0.0.1", silent.getsockname()[1], "", 100, 0, 1, 9, 4, timeout=0.3)]
        )
    whole = generator.merged(ran.seconds[0])
    assert whole.good == 0
    assert whole.errors["timeout"] > 0
    assert sum(whole.errors.values()) == whole.due
    assert generator.percentile_ms(whole.latency, 50) > 250


@needs_compiler
@pytest.mark.parametrize("first", [True, False])
def test_one_generator_that_fails_ends_the_run(program: Path, first: bool) -> None:
    server, started = Stalling(None), time.monotonic()
    good = Offered("127.0.0.1", server.port, "direct", 50, 0, 30, 9, 4)
    bad = Offered("nowhere", server.port, "direct", 50, 0, 30, 9, 4)
    try:
        with pytest.raises(read.Failure, match="out of range"):
            generator.run(program, [bad, good] if first else [good, bad])
    finally:
        server.stop()
    assert time.monotonic() - started < 10


@needs_compiler
def test_generators_share_a_rate(program: Path) -> None:
    server, seen = Stalling(None), []
    target, plan = read.Target("127.0.0.1", server.port), read.Plan(100, 2, ("direct",), connections=8, warm_up=0)
    offered = [Offered(**{**vars(one), "rate": 50}) for one in read.generators(target, plan, 1) * 2]
    try:
        ran = generator.run(program, offered, lambda newest: seen.append([one.second for one in newest]))
    finally:
        server.stop()
    assert seen == [[0, 0], [1, 1]]
    assert 140 < sum(generator.merged(each).due for each in ran.seconds) < 260


def test_as_many_generators_as_the_rate_needs_and_the_cores_allow() -> None:
    target = read.Target("192.0.2.1", 80)

    def rates(rate: float, lanes: tuple[str, ...], cores: int) -> list[tuple[str, float]]:
        return [(one.lane, one.rate) for one in read.generators(target, read.Plan(rate, 1, lanes), cores)]

    assert rates(500, ("direct",), 8) == [("direct", 500)]
    assert rates(500, ("direct", "wsgi"), 2) == [("direct", 250), ("wsgi", 250)]
    assert rates(48_000, ("direct",), 8) == [("direct", 12_000)] * 4
    assert rates(48_000, ("direct",), 2) == [("direct", 24_000)] * 2


@needs_compiler
def test_a_ramp_ends_where_the_promise_breaks(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "PAUSE_SECONDS", 0)
    # a server of Python breaks at a rate that depends on the day: this one breaks above 300
    monkeypatch.setattr(
        read, "judged",
        lambda lanes, *rest: ("broken", "p99") if lanes["direct"]["requests"] > 330 else ("held", ""),
    )  # fmt: skip
    found = measured(Stalling(None), ramp=True, rate=200, seconds=1)
    assert 200 <= found["held_per_second"] < found["broken_per_second"] <= 450
    assert found["rate"] == found["held_per_second"]
    rates = [step["rate"] for step in found["steps"]]
    assert rates == sorted(rates)
    (file,) = saved.glob("*.html")
    assert "p99 by offered rate" in file.read_text()


LANE = {"requests": 1000, "errors": {}, "shed": 0, "p99_ms": 10.0}


@pytest.mark.parametrize(
    ("lane", "late_ms", "cpu", "outcome"),
    [
        ({}, 0.1, 0.2, "held"),
        ({"p99_ms": 30.0}, 0.1, 0.2, "broken"),
        ({"shed": 2}, 0.1, 0.2, "broken"),
        ({"shed": 1}, 0.1, 0.2, "held"),
        ({"errors": {"timeout": 2}}, 0.1, 0.2, "broken"),
        ({"p99_ms": 24.0}, 8, 0.2, "unclear"),
        ({"p99_ms": 30.0}, 8, 0.2, "unclear"),  # without the generator's own part it may be kept
        ({"p99_ms": 60.0}, 8, 0.2, "broken"),
        ({}, 0.1, 0.9, "unclear"),
        ({"errors": {"not_answered": 200}}, 0.1, 0.9, "unclear"),
    ],
)
def test_what_is_said_of_a_run(lane: dict, late_ms: float, cpu: float, outcome: str) -> None:
    assert read.judged({"direct": LANE | lane}, late_ms, cpu, 25)[0] == outcome


@needs_compiler
def test_a_run_in_which_the_generator_was_late_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "BUSY_SHARE", 0)
    server = Stalling(None)
    target = read.Target("127.0.0.1", server.port)
    plan = read.Plan(100, 1, ("direct",), promise_ms=500, profiles=9)
    try:
        with pytest.raises(read.Failure, match=r"refused, nothing is saved: the generator took .*Offer less"):
            read.bench_read(target, plan, ramp=False, saturate=False, as_json=False)
    finally:
        server.stop()
    assert not list(saved.iterdir())


def test_only_loopback_may_be_named_by_url() -> None:
    assert read.target_of(Path(), "http://localhost:8080") == read.Target("127.0.0.1", 8080)
    for url in ("http://192.0.2.1/", "https://127.0.0.1/", "127.0.0.1:80", "http://griddle.example/"):
        with pytest.raises(UserError, match="only http:// on loopback"):
            read.target_of(Path(), url)


def test_a_target_that_cannot_be_measured_is_bad_input() -> None:
    with pytest.raises(UserError, match="refused"):
        read.check_lane(read.Target("127.0.0.1", 9), "direct", 1)
    for status, head, hint in (
        ("404 Not Found", "", "--profiles"),
        ("200 OK", "X-Lane: direct\r\n", "proxy_lane_override"),
    ):
        server = Stalling(None, status, head)
        try:
            with pytest.raises(UserError, match=hint):
                read.check_lane(read.Target("127.0.0.1", server.port), "wsgi", 9)
        finally:
            server.stop()


def a_run(draw: random.Random, scale: float = 1.0, at: int = 0, **what: object) -> dict:
    """Three seconds of latencies around 5 ms, begun `at` minutes past an hour."""
    seconds = [
        Second(second, 500, histogram((int(scale * draw.lognormvariate(8.5, 0.4)), 1) for _ in range(500)))
        for second in range(3)
    ]
    return {
        "kind": "read", "rate": 500, "plan": {"seconds": 3, "connections": 8, "profiles": 9},
        "lanes": {"direct": results.summary(seconds, 3, 25)},
        "what": {"git": "abc", "time": f"2026-11-25T20:{at:02}:00+00:00", **what},
    }  # fmt: skip


def two_sides(draw: random.Random, order: str, scale: float = 1.0, **of_b: object) -> tuple[dict, dict]:
    """Runs of A and B in this order, one a minute; B's are `scale` times as slow."""
    sides: dict[str, dict] = {"A": {}, "B": {}}
    for at, side in enumerate(order):
        sides[side][f"{side}{at}"] = a_run(draw, *((scale, at) if side == "B" else (1.0, at)), **(
            of_b if side == "B" else {}
        ))  # fmt: skip
    return sides["A"], sides["B"]


def rows_of(found: dict) -> dict[str, dict]:
    return {row["name"]: row for row in found["lanes"]["direct"]["rows"]}


def test_a_difference_is_told_from_noise() -> None:
    draw = random.Random(7)
    a, b = two_sides(draw, "ABBAABBAABBA", 1.5)
    for found, says, ratio in (
        (compare.compared("a", a, "b", b), "higher", 1.5),
        (compare.compared("b", b, "a", a), "lower", 1 / 1.5),
    ):
        p99 = rows_of(found)["p99"]
        assert (found["pairs"], p99["says"], p99["p"]) == (6, says, 0.0312)
        assert p99["low"] < p99["ratio"] < p99["high"]
        assert p99["ratio"] == pytest.approx(ratio, rel=0.05)
        assert f"{says}." in found["says"][0]
    a, b = two_sides(draw, "ABBAABBAABBA")
    same = compare.compared("a", a, "b", b)
    assert rows_of(same)["p99"]["says"] == "no difference seen"


def test_one_run_of_each_gets_no_verdict_however_far_they_are_apart() -> None:
    found = compare.compared(
        "a", *two_sides(random.Random(7), "AB", 3)[:1], "b", two_sides(random.Random(7), "AB", 3)[1]
    )
    assert all((row["low"], row["p"], row["says"]) == (None, None, "") for row in rows_of(found).values())
    assert rows_of(found)["p50"]["ratio"] == pytest.approx(3, rel=0.1)
    assert "no verdict" in found["says"][0]
    assert "1 and 1 runs make 1 pair" in found["says"][1] and "--repeat 6" in found["says"][1]
    assert "no verdict" in compare.text(found) and "3.0" in html.compare(found)


def test_runs_that_took_no_turns_get_no_verdict() -> None:
    a, b = two_sides(random.Random(7), "AAAAAABBBBBB", 3)
    found = compare.compared("a", a, "b", b)
    assert found["pairs"] == 1 and "no verdict" in found["says"][0]


def test_only_the_percentile_that_was_asked_for_is_judged_and_a_maximum_never() -> None:
    a, b = two_sides(random.Random(7), "ABBAABBAABBA", 3)
    for of in ("p50", "p99.9"):
        found = rows_of(compare.compared("a", a, "b", b, of))
        assert {name for name, row in found.items() if row["says"]} == {of}
    assert found["max"]["low"] is None
    assert found["max"]["b"] == max(run["lanes"]["direct"]["max_ms"] for run in b.values())


def test_what_ran_differently_is_said() -> None:
    draw = random.Random(7)
    a, b = two_sides(draw, "AB" * 7, hosts={"app1": {"cores": 4}})
    a["A0"]["rate"], b["B1"]["others_cores"], a["A2"]["what"]["git"] = 600, 0.4, "def"
    found = compare.compared("a", a, "b", b)
    assert found["differs"] == ["hosts app1 cores: none → 4"]
    said = compare.text(found)
    for expected in (
        "what was offered: rates 500, 600", "B: other work on this machine took up to 0.40 cores",
        "A was always the first of its pair", "A's own runs are of different things: git: abc → def",
        "A a: 7 runs",
    ):  # fmt: skip
        assert expected in said
    assert "95 % interval" in html.compare(found)


@needs_compiler
def test_labels_are_measured_in_turns_after_a_switch_and_compared_by_name(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read.turns(("a", "b"), 4) == ["a", "b", "b", "a", "a", "b", "b", "a"]
    server = Stalling(None)
    given = f"--url http://127.0.0.1:{server.port} --rate 100 --duration 1 --profiles 9 --json"
    switch = saved / "switch.sh"
    switch.write_text(f'#!/bin/sh\necho "$1" >> {saved}/switched\n')
    switch.chmod(0o755)
    labels = ("--label", "old", "--label", "new", "--switch", str(switch))
    try:
        assert griddle(monkeypatch, "bench", "read", *given.split(), *labels) == 0
    finally:
        server.stop()
    assert [run["label"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["old", "new"]
    assert (saved / "switched").read_text().split() == ["old", "new"]
    assert griddle(monkeypatch, "bench", "compare", "old", "new", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 1
    old = [path.name for path in saved.glob("bench-read-old-*.json")]
    new = [path.name for path in saved.glob("bench-read-new-*.json")]
    assert griddle(monkeypatch, "bench", "compare", "--json", *old, "--", *new) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("read --label a/b", "letters, digits"), ("read --repeat 2", "needs a --label"),
        ("read --label a --label a", "twice"), ("read --label a --ramp", "one rate only"),
        ("read --switch true", "called with a label"), ("compare a b c", "--"), ("compare a", "two things"),
        ("compare a -- ", "two things"), ("compare none b", "no result none"), ("compare path b", "no result of"),
        ("compare list b", "no object"), ("compare a a", "on both sides"),
        ("compare a inf", "Infinity is no number"), ("compare a huge", "1e999 is no number"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    for name in "ab":
        (saved / f"{name}.json").write_text(json.dumps(a_run(random.Random(7))))
    (saved / "path.json").write_text('{"rows": []}')
    (saved / "list.json").write_text("[]")
    (saved / "inf.json").write_text(json.dumps(a_run(random.Random(7)) | {"cpu_us": {"store": float("inf")}}))
    (saved / "huge.json").write_text('{"cpu_us": {"store": 1e999}}')
    assert griddle(monkeypatch, "bench", *arguments.split()) == 2
    out, said = capsys.readouterr()
    assert out == "" and said.startswith("griddle: ") and says in said and said.count("\n") == 1


def griddle(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command line in this process, where `saved` says what results/ is; its exit code."""
    monkeypatch.setattr("sys.argv", ["griddle", *arguments])
    return cli.main()


def test_compare_by_the_command_line(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(7)
    for name in "ab":
        (saved / f"{name}.json").write_text(json.dumps(a_run(draw)))
    assert griddle(monkeypatch, "bench", "compare", "a", str(saved / "b.json"), "--json") == 0
    rows = json.loads(capsys.readouterr().out)["lanes"]["direct"]["rows"]
    assert [row["name"] for row in rows][:3] == ["p50", "p90", "p99"]
    assert (saved / "compare-a-b.html").is_file()


def test_cpu_time_by_role_is_the_units_of_each() -> None:
    def text(up: int, usage: dict[str, int]) -> str:
        return f"up {up}\n" + "\n".join(f"{group}cpu.stat:usage_usec {us}" for group, us in usage.items())

    store = "system.slice/system-griddle\\x2dstore.slice"
    before = where.parse_used(text(100, {"": 9_000_000, "system.slice/nginx.service/": 1_000_000}))
    usage = {"": 12_000_000, "system.slice/": 5, f"{store}/": 1_500_000, "system.slice/nginx.service/": 1_400_000}
    usage |= {f"{store}/griddle-store@a-{n}.service/": 700_000 for n in (0, 1)}
    after = where.parse_used(text(110, usage))
    found = {"h": where.cores(before, after)}
    assert found["h"] == pytest.approx({"proxy": 0.04, "store": 0.14, "other": 0.12})
    assert where.us_per_request(found, 1000) == pytest.approx({"proxy": 40, "store": 140, "other": 120})


def test_pages_stand_alone() -> None:
    draw = random.Random(1)
    document = a_run(draw) | {"outcome": "held", "why": "", "cpu_us": {"proxy": 20.0, "store": 40.0}}
    document["plan"] |= {"promise_ms": 25, "rate": 500}
    document["what"] |= {"target": "<vip>"}
    page = html.read(document)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert "<vip>" not in page
    assert "&lt;vip&gt;" in page
    assert page.count("<svg") == 4


def test_ticks_are_round_and_reach_the_highest() -> None:
    for high in (0.03, 1, 7, 23, 999, 50_000):
        marks = charts.ticks(high)
        assert marks[0] == 0
        assert marks[-1] >= high
        assert 3 <= len(marks) <= 7
    assert charts.log_ticks(0.4, 120) == [0.1, 1, 10, 100, 1000]
