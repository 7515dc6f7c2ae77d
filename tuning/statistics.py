"""Whether A and B differ by more than noise: pure functions for everything that compares measurements.

The unit is a run. Seconds of one run resemble each other (a cache is warm, a neighbour is busy), so a thousand of
them say no more of what differs between runs than one run does. A and B take turns, and each run is paired with
its neighbour in time: what drifts slowly is in both, and drops out of their ratio.

Two ways of judging the same log-ratios have to agree: Student's t interval, which says how large the difference
is, and a permutation of their signs (Fisher 1935), which assumes nothing of how they are distributed. Both are a
few lines, so scipy, as large as all else that an operator's machine installs, is not worth it.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

CONFIDENCE = 0.95
LEAST_PAIRS = 6  # with fewer, signs alone tell nothing at 95 %: 2 of 2^5 permutations are 6 %
EXACT_PAIRS = 14  # up to here every permutation of signs is counted
DRAWS = 10_000


class Taken(NamedTuple):
    """A measurement: when it began, of which side (A or B), and what it is known by."""

    at: float
    side: str
    key: str


@dataclass(frozen=True)
class Difference:
    """B / A over pairs: the geometric mean, its interval, and how often signs by chance would show as much."""

    ratio: float
    low: float
    high: float
    p: float
    pairs: int
    confidence: float = CONFIDENCE

    @property
    def verdict(self) -> str:
        """higher, lower, or no difference seen."""
        if self.pairs < LEAST_PAIRS or self.p > 1 - self.confidence or self.low <= 1 <= self.high:
            return "no difference seen"
        return "higher" if self.low > 1 else "lower"


def in_turns(taken: Sequence[Taken]) -> list[tuple[str, str]]:
    """(key of A, key of B) of measurements that follow each other in time; others are left out.

    A A A B B B gives one pair: what happened between the first half and the second is not the difference.
    """
    pairs, waiting = [], None
    for each in sorted(taken):
        if waiting is None or waiting.side == each.side:
            waiting = each
        else:
            a, b = sorted((waiting, each), key=lambda one: one.side)
            pairs.append((a.key, b.key))
            waiting = None
    return pairs


def paired(pairs: Sequence[tuple[float, float]], confidence: float = CONFIDENCE) -> Difference:
    """Of positive values (a, b); at least two pairs."""
    logs = [math.log(b / a) for a, b in pairs]
    mean = statistics.fmean(logs)
    reach = t_quantile(confidence, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Difference(
        math.exp(mean), math.exp(mean - reach), math.exp(mean + reach), sign_flip_p(logs), len(logs), confidence
    )


def sign_flip_p(differences: Sequence[float]) -> float:
    """Of all ways to give the differences signs, the share whose sum is as far from zero as theirs is."""
    sizes, seen = [abs(each) for each in differences], abs(math.fsum(differences))
    enough = seen - 1e-12 * max(1.0, seen)  # the same sum in another order is not smaller
    if len(sizes) <= EXACT_PAIRS:
        sums = [0.0]
        for size in sizes:
            sums = [each + signed for each in sums for signed in (size, -size)]
        return sum(abs(each) >= enough for each in sums) / len(sums)
    draw = random.Random(1)
    sums = [math.fsum(draw.choice((1, -1)) * size for size in sizes) for _ in range(DRAWS)]
    return (1 + sum(abs(each) >= enough for each in sums)) / (1 + DRAWS)


def t_quantile(share: float, degrees: int) -> float:
    """t such that a Student's t of so many degrees of freedom lies within ±t with this probability."""
    low, high = 0.0, 1.0
    while t_within(high, degrees) < share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, degrees) < share else (low, middle)
    return high


def t_within(t: float, degrees: int) -> float:
    """P(|T| <= t), exactly: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    total = term = 0.0
    for power in range(odd, degrees - 1, 2):
        term = (cosine if odd else 1.0) if power == odd else term * cosine**2 * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
