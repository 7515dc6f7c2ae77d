"""Comparisons by simulation: how often two of the same thing are called different, and a difference is seen."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from tuning import statistics
from tuning.statistics import Taken, in_turns, paired, sign_flip_p, t_quantile, t_within

SECONDS, GAP = 30, 5  # of a run, and between two


def level(draw: random.Random, drift: float, spread: float) -> Iterator[float]:
    """Logarithms of what a thing takes second by second: an AR(1) with this coefficient and standard deviation."""
    now = draw.gauss(0, spread)
    while True:
        yield now
        now = drift * now + draw.gauss(0, spread * math.sqrt(1 - drift**2))


def runs(draw: random.Random, order: str, drift: float, spread: float, effect: float) -> dict[str, list[float]]:
    """Values of runs that follow each other on a machine that drifts on; B takes `effect` times A's."""
    seconds, found = level(draw, drift, spread), {"A": [], "B": []}
    for side in order:
        mean = sum(next(seconds) for _ in range(SECONDS)) / SECONDS
        for _ in range(GAP):
            next(seconds)
        noise = draw.gauss(0, 0.01)  # a percentile of so many requests
        found[side].append(math.exp(mean + noise) * (effect if side == "B" else 1))
    return found


def called_different(pairs: int, *, drift: float, spread: float, effect: float = 1, times: int = 1000) -> float:
    draw, found = random.Random(1), 0
    for _ in range(times):
        order = "".join("BA" if number % 2 else "AB" for number in range(pairs))
        seen = runs(draw, order, drift, spread, effect)
        found += paired(list(zip(seen["A"], seen["B"], strict=True))).verdict != "no difference seen"
    return found / times


DRIFTS = {"independent": (0.0, 0.05), "seconds": (0.8, 0.05), "minutes": (0.99, 0.1), "hours": (0.9999, 0.3)}


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("pairs", [6, 10])
def test_two_of_the_same_thing_are_rarely_called_different(drift: str, pairs: int) -> None:
    coefficient, spread = DRIFTS[drift]
    assert called_different(pairs, drift=coefficient, spread=spread) < 0.065


def test_a_difference_of_a_tenth_is_seen_where_seconds_drift() -> None:
    assert called_different(6, drift=0.8, spread=0.05, effect=1.10, times=300) > 0.9
    assert called_different(10, drift=0.8, spread=0.05, effect=1.05, times=300) > 0.9


def test_students_t_is_that_of_the_tables() -> None:
    tables = {1: 12.706, 2: 4.303, 3: 3.182, 5: 2.571, 6: 2.447, 10: 2.228, 30: 2.042, 101: 1.984}
    for degrees, expected in tables.items():
        assert t_quantile(0.95, degrees) == pytest.approx(expected, abs=5e-4)
        assert t_within(expected, degrees) == pytest.approx(0.95, abs=1e-4)


def test_signs_are_counted_exactly_and_where_they_are_many_by_drawing() -> None:
    assert sign_flip_p([1.0] * 5) == 2 / 2**5
    assert sign_flip_p([1.0] * 6) == 2 / 2**6
    assert sign_flip_p([1.0, -1.0]) == 1
    assert sign_flip_p([0.1, 0.2, 0.3]) == 2 / 2**3  # the same sum in another order is as far away
    draw = random.Random(3)
    same = [draw.gauss(0, 1) for _ in range(statistics.EXACT_PAIRS)]
    assert sign_flip_p([*same, 1e-9]) == pytest.approx(sign_flip_p(same), abs=0.02)
    assert sign_flip_p([1.0] * 20) < 0.001


def test_five_pairs_are_too_few_for_any_verdict_and_six_need_both_judges() -> None:
    assert paired([(1, 2.0), (1, 2.01), (1, 1.99), (1, 2.0), (1, 2.02)]).verdict == "no difference seen"
    sure = [(1, 2.0), (1, 2.1), (1, 1.9), (1, 2.0), (1, 2.2), (1, 1.8)]
    assert paired(sure).verdict == "higher"
    assert paired([(b, a) for a, b in sure]).verdict == "lower"
    assert paired([*sure[:5], (1, 0.99)]).verdict == "no difference seen"
    assert paired([(1, 1.0)] * 6).verdict == "no difference seen"


@pytest.mark.parametrize(
    ("order", "pairs"),
    [
        ("ABBA", [(0, 1), (3, 2)]), ("AABB", [(1, 2)]), ("AAABAB", [(2, 3), (4, 5)]), ("A", []), ("", []),
        ("ABABA", [(0, 1), (2, 3)]),
    ],
)  # fmt: skip
def test_neighbours_in_time_are_a_pair(order: str, pairs: list[tuple[int, int]]) -> None:
    taken = [Taken(at, side, str(at)) for at, side in enumerate(order)]
    random.Random(1).shuffle(taken)
    assert in_turns(taken) == [(str(a), str(b)) for a, b in pairs]
