"""`griddle capacity`: the model's limits and directions, and what is made of measurements."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from ops.bench import capacity as model
from ops.bench import capacity_check, html
from ops.bench import capacity_report as report

utilisations = st.floats(0.01, 0.94)
CURVE = model.Curve(2.0, 4.0)


def test_waiting_grows_without_bound_towards_saturation() -> None:
    assert CURVE.p99_ms(0) == 2
    assert CURVE.p99_ms(0.5) == 6
    assert CURVE.p99_ms(1) == math.inf
    assert model.Curve(3, 0).utilisation(10) == model.HIGHEST
    assert CURVE.utilisation(2) == 0


@given(utilisations)
def test_the_utilisation_for_a_p99_is_that_at_which_it_is_reached(u: float) -> None:
    assert CURVE.utilisation(CURVE.p99_ms(u)) == pytest.approx(u)


@given(st.floats(0, 5), st.floats(0, 20), st.lists(utilisations, min_size=2, max_size=9, unique=True))
def test_a_fit_finds_what_the_points_were_made_of(base: float, slope: float, at: list[float]) -> None:
    if max(at) - min(at) < 0.1 or base + slope < 0.1:
        return
    made = model.Curve(base, slope)
    found = model.fit([(u, made.p99_ms(u)) for u in at])
    for u in at:
        assert found.p99_ms(u) == pytest.approx(made.p99_ms(u), rel=1e-3)


@given(st.lists(st.tuples(utilisations, st.floats(0.1, 500)), min_size=2, max_size=9))
def test_no_fit_falls_with_utilisation_or_below_zero(points: list[tuple[float, float]]) -> None:
    found = model.fit(points)
    assert found.base_ms >= 0
    assert found.slope_ms >= 0


needs = st.builds(
    lambda us, machines, spare: model.Need("apps", us, machines, machines, min(spare, machines - 1)),
    st.floats(1, 500), st.integers(1, 6), st.integers(0, 1),
)  # fmt: skip


@given(needs, st.floats(100, 100_000), utilisations)
def test_a_tier_keeps_below_what_is_allowed_with_one_lost(need: model.Need, rate: float, allowed: float) -> None:
    tier = model.sized(need, rate, allowed, 64)
    assert tier.cores <= 64
    assert tier.utilisation <= allowed + 1e-6
    if need.spare:
        assert tier.utilisation_one_lost <= allowed + 1e-6
        assert tier.utilisation_one_lost > tier.utilisation
    assert tier.most_per_second >= rate * (1 - 1e-6)
    if tier.cores > 1:  # one core less would not do
        left = max(1, tier.machines - need.spare)
        assert rate * need.us_per_request / 1e6 / (left * (tier.cores - 1)) > allowed * (1 - 1e-6)


@given(needs, st.floats(100, 50_000), st.floats(1, 3), utilisations)
def test_more_load_and_less_patience_never_need_less(
    need: model.Need, rate: float, times: float, allowed: float
) -> None:
    def cores(rate: float, allowed: float) -> int:
        tier = model.sized(need, rate, allowed, 1000)
        return tier.machines * tier.cores

    assert cores(rate * times, allowed) >= cores(rate, allowed)
    assert cores(rate, allowed / times) >= cores(rate, allowed)


def test_larger_machines_than_there_are_become_more_machines() -> None:
    tier = model.sized(model.Need("apps", 100, 3, 3, 1), 100_000, 0.5, 4)
    assert (tier.machines, tier.cores) == (6, 4)


def test_of_proxies_one_carries_everything() -> None:
    tier = model.sized(model.Need("proxies", 30, 2, 1, 0), 50_000, 0.7, 16)
    assert (tier.machines, tier.cores) == (2, 3)
    assert tier.utilisation == tier.utilisation_one_lost == pytest.approx(0.5)


@given(st.integers(1, 40), st.floats(1, 500), st.floats(1, 4), st.floats(0, 5000))
def test_a_closed_network_keeps_below_both_bounds_and_grows(
    customers: int, demand: float, servers: float, delay: float
) -> None:
    rate = model.closed(customers, demand, servers, delay)
    assert rate <= servers * 1e6 / demand * (1 + 1e-9)
    assert rate <= customers * 1e6 / (demand + delay) * (1 + 1e-9)
    assert model.closed(customers + 1, demand, servers, delay) >= rate * (1 - 1e-9)


def test_more_fronts_for_longer_waits() -> None:
    assert model.fronts(1000, 100, 0, 0.5) < model.fronts(1000, 100, 2000, 0.5)
    assert model.fronts(1000, 100, 1900, 0.5) == 5


def a_curve(us: float = 40.0, time: str = "2026-01-02") -> dict:
    points = [
        {"share": u, "core_share": u, "p50_ms": 0.5, "p99_ms": CURVE.p99_ms(u), "database_us": 8.0,
         "cpu_us": {"proxy": us, "store": us, "front": us}}
        for u in (0.3, 0.6, 0.9)
    ]  # fmt: skip
    saturated = {"cpu_us": {"proxy": us / 2, "store": us, "front": us}, "database_us": 8.0}
    return {
        "kind": "curve", "engine": "fdb", "lane": "direct", "saturated": saturated, "points": points,
        "machine": {"time": time},
    }  # fmt: skip


def a_path(us: float, time: str) -> dict:
    cost = {"proxy": us, "front": 0.0, "store": us, "total": 2 * us}
    row = {"path": "direct", "engine": "fdb", "cpu_us_per_request": cost, "database_us_per_request": 9.0}
    return {"rows": [row], "machine": {"time": time}}


def put(directory: Path, kind: str, name: str, document: dict) -> None:
    (directory / f"bench-{kind}-{name}.json").write_text(json.dumps(document))


def test_the_newest_measurements_count(tmp_path: Path) -> None:
    put(tmp_path, "curve", "1", a_curve(99))
    put(tmp_path, "curve", "2", a_curve(40))
    put(tmp_path, "path", "1", a_path(77, "2026-01-01"))
    seen = report.measured("fdb", "direct", directory=tmp_path)
    assert (seen.curve_from, seen.costs_from) == ("bench-curve-2.json", "bench-curve-2.json")
    assert seen.costs["store"] == 40
    put(tmp_path, "path", "2", a_path(33, "2026-01-03"))
    seen = report.measured("fdb", "direct", directory=tmp_path)
    assert (seen.curve_from, seen.costs_from) == ("bench-curve-2.json", "bench-path-2.json")
    assert seen.costs == {"proxy": 33, "front": 0, "store": 33, "database": 9}


def test_points_of_an_overload_or_of_a_late_generator_are_left_out() -> None:
    points = [{"share": u, "p50_ms": p50, "p99_ms": p99} for u, p50, p99 in
              ((0.3, 2.0, 9.0), (0.5, None, None), (0.8, 3.0, 20.0), (0.9, 300.0, 800.0))]  # fmt: skip
    assert [each["share"] for each in report.steady(points)] == [0.3, 0.8]


def test_a_result_can_be_named(tmp_path: Path) -> None:
    put(tmp_path, "path", "1", a_path(77, "2026-01-01"))
    put(tmp_path, "curve", "1", a_curve(40))
    named = str(tmp_path / "bench-path-1.json")
    assert report.measured("fdb", "direct", named, tmp_path).costs["store"] == 77
    for wrong in ("none", named):
        with pytest.raises(UserError):
            report.measured("fdb", "wsgi", wrong, tmp_path)


@pytest.mark.parametrize("lane", ["direct", "wsgi"])
@pytest.mark.parametrize("engine", ["fdb", "etcd", "memory"])
def test_the_repo_brings_measurements_of_every_engine_and_lane(engine: str, lane: str, tmp_path: Path) -> None:
    found = report.answer(report.Asked(1000, 500, engine, lane), report.measured(engine, lane, None, tmp_path))
    assert all(tier["utilisation"] > 0 for tier in found["tiers"])


def test_the_answer(tmp_path: Path) -> None:
    put(tmp_path, "curve", "1", a_curve(40))
    seen = report.measured("fdb", "direct", directory=tmp_path)
    found = report.answer(report.Asked(50_000, 25, "fdb", "direct"), seen)
    allowed = report.HEADROOM * CURVE.utilisation(25)
    assert found["allowed_utilisation"] == pytest.approx(allowed, abs=0.001)
    tiers = {tier["name"]: tier for tier in found["tiers"]}
    assert {name: tier["machines"] for name, tier in tiers.items()} == {"proxies": 2, "apps": 3, "fdb": 5}
    assert found["p99_ms"] < found["p99_one_lost_ms"] <= 25
    assert found["most_per_second"] == min(round(tier["most_per_second"]) for tier in tiers.values()) >= 50_000
    said = report.text(found)
    for expected in ("50,000 reads/s", "First to give:", "bench-curve-1.json", "one lost"):
        assert expected in said
    assert "Griddle: capacity" in html.capacity(found)
    with pytest.raises(UserError, match="below that of an idle path"):
        report.answer(report.Asked(50_000, 1, "fdb", "direct"), seen)


def test_the_wsgi_lane_is_told_how_many_fronts(tmp_path: Path) -> None:
    put(tmp_path, "curve", "1", a_curve(40) | {"lane": "wsgi"})
    seen = report.measured("fdb", "wsgi", directory=tmp_path)
    found = report.answer(report.Asked(10_000, 25, "fdb", "wsgi"), seen)
    assert found["fronts_per_app"] > 1
    apps = next(tier for tier in found["tiers"] if tier["name"] == "apps")
    assert apps["us_per_request"] == pytest.approx(80)
    assert "front_workers" in report.text(found)


def test_etcd_works_on_the_app_hosts(tmp_path: Path) -> None:
    put(tmp_path, "curve", "1", a_curve(40) | {"engine": "etcd"})
    found = report.answer(
        report.Asked(1000, 25, "etcd", "direct"), report.measured("etcd", "direct", None, tmp_path)
    )
    assert [tier["name"] for tier in found["tiers"]] == ["proxies", "apps"]


def a_loop(connections: int, workers: int, rate: float | None = None, cores: float = 2.0) -> model.Loop:
    """As a lab would be whose requests cost 200 µs in batches of one and 100 in batches of four."""
    batches = min(1.0, workers / connections)
    cost = 200 * batches**0.5
    return model.Loop(rate or 0.9 * cores * 1e6 / cost, cost, cores, connections, workers)


def test_other_workers_are_predicted_from_two_loops() -> None:
    calibrates = a_loop(16, 6), a_loop(64, 6)
    assert model.cost_at(0.25, *calibrates) == pytest.approx(100)
    for wanted in (a_loop(16, 3), a_loop(64, 3), a_loop(64, 3, cores=1.2)):
        assert model.predicted(calibrates, wanted) == pytest.approx(wanted.rate, rel=0.05)


def test_fewer_fronts_are_fewer_customers() -> None:
    def loop(fronts: int, rate: float) -> model.Loop:
        return model.Loop(rate, 400, 2, 64, fronts, fronts)

    calibrates = (loop(6, 4500), loop(6, 4500))
    assert model.predicted(calibrates, loop(3, 0)) == pytest.approx(model.closed(3, 400, 1.8))


def saturated(workers: int, connections: int, rate: float) -> dict:
    app = {"engine": "fdb", "store_workers": workers, "front_workers": 1, "cores": 2}
    return {
        "saturated": {"lane": "direct", "requests_per_second": rate, "errors": {}}, "others_cores": 0.5,
        "cpu_us": {"store": 100.0, "proxy": 50.0}, "generator_cores": 0.1, "plan": {"connections": connections},
        "what": {"generator": {"cores": 2}, "hosts": {"app1": app, "app2": app, "proxy1": {}, "x": None}},
    }  # fmt: skip


def test_results_of_the_lab_are_set_beside_their_predictions() -> None:
    documents = [saturated(2, 16, 5000), saturated(1, 64, 6000), saturated(2, 64, 6000)]
    found = capacity_check.rows(documents)
    assert [(row["store_workers"], row["predicted"] is None) for row in found] == [
        (4, True),
        (4, True),
        (2, False),
    ]
    _, _, loop = capacity_check.loop_of(documents[0])
    assert (loop.cores, loop.cost_us, loop.store_workers, loop.fronts) == (1.5, pytest.approx(170), 4, None)
    assert "calibrates" in capacity_check.text(found)
    for wrong in ([saturated(2, 16, 5000)], [{"kind": "read", "lanes": {}}]):
        with pytest.raises(UserError):
            capacity_check.rows(wrong)
