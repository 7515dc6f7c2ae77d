"""The model behind `griddle capacity`: pure functions of measured costs and of a measured latency curve.

- How much a tier can do follows from CPU time per request alone (the utilisation law, and bottleneck analysis:
  Denning and Buzen, "The operational analysis of queueing network models", 1978): a core that needs D µs for a
  request at saturation is used to X · D / 1e6 at X requests/s, and the tier that is used most gives first. Below
  saturation a request costs more, for batches are smaller: that is idle time put to use, not lost capacity.
- How long requests take by how busy that tier is follows from what was measured: waiting grows as u / (1 - u)
  (Kingman 1961; Allen and Cunneen's form for several servers), and since waiting times near saturation are close
  to exponential, each of their percentiles grows the same way. So p99(u) = base + slope · u / (1 - u), with both
  numbers fitted to a measured curve.
- The store reads what waits in one batch, and the less it finds, the more a request costs, in nginx, the database
  and the kernel as well: as a power of batches per request, whose exponent comes from two measurements. The law is
  empirical: a + k · batches, which a store alone would follow, came out 9 to 20 % too dear.
- The WSGI lane's fronts serve one request at a time, and wait while the store reads. N of them are a closed
  network of N customers: mean value analysis (Reiser and Lavenberg 1980), several cores after Seidmann, Schweitzer
  and Shalev-Oren (1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

HIGHEST = 0.95  # nothing is measured above this


@dataclass(frozen=True)
class Curve:
    """p99 in ms by utilisation: the share of what the busiest core does at saturation."""

    base_ms: float
    slope_ms: float

    def p99_ms(self, utilisation: float) -> float:
        """Infinite where the utilisation is 1 or more."""
        if utilisation >= 1:
            return math.inf
        return self.base_ms + self.slope_ms * utilisation / (1 - utilisation)

    def utilisation(self, p99_ms: float) -> float:
        """The highest at which the p99 is kept; 0 where none is."""
        if p99_ms <= self.base_ms:
            return 0.0
        if not self.slope_ms:
            return HIGHEST
        waiting = (p99_ms - self.base_ms) / self.slope_ms
        return min(HIGHEST, waiting / (1 + waiting))


@dataclass(frozen=True)
class Need:
    """What one tier is asked for: CPU µs per request, over `machines` of which `spare` may be lost.

    `active` is how many of them share the load: of proxies behind one virtual address it is one.
    """

    name: str
    us_per_request: float
    machines: int
    active: int
    spare: int


@dataclass(frozen=True)
class Tier:
    """A tier as it is to be built."""

    name: str
    us_per_request: float
    machines: int
    cores: int  # each machine's, for this work
    utilisation: float
    utilisation_one_lost: float | None  # None: there is no other machine to take its work
    most_per_second: float  # at which the allowed utilisation is reached, with one lost


def fit(points: Sequence[tuple[float, float]]) -> Curve:
    """Least squares of relative errors through (utilisation, p99 ms); neither number below zero.

    Relative: else the points near saturation, a hundred times as high and least repeatable, would decide alone.
    """
    points = [(u / (1 - u), ms) for u, ms in points if 0 < u < 1 and ms > 0]
    if len(points) < 2:
        raise ValueError("a curve needs two points at least")
    weights = [1 / ms**2 for _, ms in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    common = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    slope = max(0.0, common / spread) if spread else 0.0
    base = mean_y - slope * mean_x
    if base < 0:  # through the origin then
        slope = sum(w * x * y for w, (x, y) in zip(weights, points, strict=True)) / sum(
            w * x * x for w, (x, _) in zip(weights, points, strict=True)
        )
        base = 0.0
    return Curve(base, slope)


def sized(need: Need, rate: float, allowed: float, max_cores: int) -> Tier:
    """The fewest cores with which `rate` keeps below the `allowed` utilisation with one machine lost.

    Where that would take larger machines than there are, more of them.
    """
    machines, active = need.machines, need.active
    work = rate * need.us_per_request / 1e6  # cores that are busy

    def left() -> int:
        return max(1, active - need.spare)

    while (cores := max(1, math.ceil(work / (allowed * left()) - 1e-9))) > max_cores:
        machines, active = machines + 1, active + 1
    one_lost = machines - 1 and min(active, machines - 1)
    return Tier(
        name=need.name,
        us_per_request=need.us_per_request,
        machines=machines,
        cores=cores,
        utilisation=work / (active * cores),
        utilisation_one_lost=work / (one_lost * cores) if one_lost else None,
        most_per_second=allowed * left() * cores * 1e6 / need.us_per_request,
    )


def fronts(rate: float, front_us: float, wait_us: float, allowed: float) -> int:
    """Synchronous workers that `rate` needs (Little's law): each is held while it works and the store reads."""
    return math.ceil(rate * (front_us / (1 - allowed) + wait_us) / 1e6 / allowed)


def closed(customers: int, demand_us: float, servers: float, delay_us: float = 0.0) -> float:
    """Requests/s of a closed network: one station of `servers` and a delay."""
    servers = max(servers, 1e-9)
    at_one = demand_us / servers
    elsewhere = delay_us + demand_us * max(0.0, servers - 1) / servers
    queue = rate = 0.0
    for customer in range(1, customers + 1):
        residence = at_one * (1 + queue)
        rate = customer / (residence + elsewhere)
        queue = rate * residence
    return rate * 1e6


@dataclass(frozen=True)
class Loop:
    """A closed loop on hosts that share `cores`: what it got through, and what a request cost in CPU, all told."""

    rate: float
    cost_us: float
    cores: float  # that other work left
    connections: int
    store_workers: int
    fronts: int | None = None  # on the WSGI lane

    @property
    def under_way(self) -> int:
        """Requests at the stores at most: a front asks for one at a time."""
        return min(self.connections, self.fronts or self.connections)

    @property
    def batches(self) -> float:
        """Batches per request, if all stores have the same to do."""
        return max(1 / self.under_way, min(1.0, self.store_workers / self.under_way))


def cost_at(batches: float, one: Loop, other: Loop) -> float:
    """A request's CPU µs at so many batches per request, by the power law through two loops.

    Where these two have the same batches: the mean of what they cost.
    """
    apart = math.log(one.batches / other.batches)
    if abs(apart) < 0.01:
        return (one.cost_us + other.cost_us) / 2
    exponent = max(0.0, math.log(one.cost_us / other.cost_us) / apart)
    return other.cost_us * (batches / other.batches) ** exponent


def predicted(calibrated: tuple[Loop, Loop], wanted: Loop) -> float:
    """Saturation of another configuration (`wanted`, whose rate and cost are not looked at), from two loops.

    Of the cores it uses the share that they used: a core is idle for moments while work is handed over.
    """
    share = sum(loop.rate * loop.cost_us / 1e6 / loop.cores for loop in calibrated) / 2
    return closed(wanted.under_way, cost_at(wanted.batches, *calibrated), share * wanted.cores)
