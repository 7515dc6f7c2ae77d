"""`griddle capacity`: what the model says of a promise, from the newest measurements or those kept in the repo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import UserError
from cluster.progress import say
from cluster.table import aligned
from ops.bench import capacity as model
from ops.bench import html, results

KEPT = Path(__file__).parent / "measured.json"
"""Curves that come with the repo: {"<engine> <lane>": a `bench curve` document}."""
HEADROOM = 0.9  # of the utilisation at which the p99 reaches the promise: the curve is a fit, and load is uneven
PARTS = ("proxy", "front", "store")
OVERLOADED = 5


@dataclass(frozen=True)
class Asked:
    """The promise and the hosts that there are."""

    rate: float
    p99_ms: float
    engine: str
    lane: str
    proxies: int = 2
    apps: int = 3
    nodes: int = 5
    max_cores: int = 16


@dataclass(frozen=True)
class Measured:
    """Costs by part at saturation (µs per request), p99 by share of saturation, and where they are from."""

    costs: Mapping[str, float]
    points: list[tuple[float, float]]
    unloaded_ms: float  # p50 at the lowest rate that was measured
    curve_from: str
    costs_from: str


def capacity(asked: Asked, source: str | None, *, as_json: bool) -> None:
    """Print, and save a page."""
    found = answer(asked, measured(asked.engine, asked.lane, source))
    path = results.save("capacity", found)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print(text(found))
    say(f"report: {html.write(path, found)}")


def measured(engine: str, lane: str, source: str | None = None, directory: Path | None = None) -> Measured:
    """The newest curve of this engine and lane, and where a `bench path` is newer than it, that one's costs.

    :param source: a result to take instead: of bench curve, or of bench path for the costs alone
    """
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    curve, curve_from = kept.get(f"{engine} {lane}"), f"{KEPT.name}, {engine} {lane}"
    named = results.load(source) if source else None
    for path, document in results.all_of("curve", directory or results.RESULTS):
        if (document["engine"], document["lane"]) == (engine, lane):
            curve, curve_from = document, path.name
            break
    if named and named.get("kind") == "curve":
        if (named["engine"], named["lane"]) != (engine, lane):
            raise UserError(f"{source} is of the {named['lane']} lane on {named['engine']}")
        curve, curve_from = named, source
    if curve is None or len(steady(curve["points"])) < 2:
        again = f"./griddle bench curve --engine {engine} --lane {lane}"
        raise UserError(f"too little was measured of the {lane} lane on {engine}: {again}")
    row, costs_from = None, curve_from
    if named and named.get("kind") != "curve":
        row, costs_from = _row(named, engine, lane), source
        if row is None:
            raise UserError(f"{source} holds no row of the {lane} lane on {engine}")
    elif not named:
        for path, document in results.all_of("path", directory or results.RESULTS):
            if document["machine"]["time"] > curve["machine"]["time"] and (row := _row(document, engine, lane)):
                costs_from = path.name
                break
    points = steady(curve["points"])
    return Measured(
        costs=_costs(row["cpu_us_per_request"], row["database_us_per_request"])
        if row
        else _costs(curve["saturated"]["cpu_us"], curve["saturated"]["database_us"]),
        points=[(each["share"], each["p99_ms"]) for each in points],
        unloaded_ms=min(each["p50_ms"] for each in points),
        curve_from=curve_from,
        costs_from=costs_from,
    )


def steady(points: Sequence[Mapping]) -> list[Mapping]:
    """Those that tell of waiting: not where the generator was late, nor where the queue only grew.

    A median far above the lowest is that of an overload: other work had lowered the saturation in the meantime.
    """
    told = [each for each in points if each["p99_ms"] is not None]
    lowest = min((each["p50_ms"] for each in told), default=0.0)
    return [each for each in told if each["p50_ms"] <= OVERLOADED * lowest]


def answer(asked: Asked, seen: Measured) -> dict:
    """The document: tiers, what gives first, p99, and lines for people."""
    curve = model.fit(seen.points)
    allowed = HEADROOM * curve.utilisation(asked.p99_ms)
    if not allowed:
        raise UserError(
            f"a p99 of {asked.p99_ms:g} ms is below that of an idle path: {curve.base_ms:.1f} ms; ask for more"
        )
    costs = dict(seen.costs)
    tiers = [model.sized(need, asked.rate, allowed, asked.max_cores) for need in needs(asked, costs)]
    first = min(tiers, key=lambda tier: tier.most_per_second)
    busiest = max(tier.utilisation for tier in tiers)
    one_lost = max((tier.utilisation_one_lost for tier in tiers if tier.utilisation_one_lost), default=None)
    found = {
        "kind": "capacity",
        "asked": asdict(asked),
        "allowed_utilisation": round(allowed, 3),
        "costs_us": costs,
        "tiers": [asdict(tier) for tier in tiers],
        "gives_first": first.name,
        "most_per_second": round(first.most_per_second),
        "p99_ms": round(curve.p99_ms(busiest), 1),
        "p99_one_lost_ms": None if one_lost is None else round(curve.p99_ms(one_lost), 1),
        "fronts_per_app": None,
        "latency": {
            "base_ms": curve.base_ms,
            "slope_ms": curve.slope_ms,
            "measured": seen.points,
            "model": [(at / 100, curve.p99_ms(at / 100)) for at in range(25, 96, 5)],
        },
        "from": {"curve": seen.curve_from, "costs": seen.costs_from},
    }
    if asked.lane == "wsgi":
        left = max(1, next(tier.machines for tier in tiers if tier.name == "apps") - 1)
        waits = max(0.0, seen.unloaded_ms * 1000 - sum(costs.values()))
        found["fronts_per_app"] = model.fronts(asked.rate / left, costs["front"], waits, allowed)
    return found | {"says": says(found)}


def needs(asked: Asked, costs: Mapping[str, float]) -> list[model.Need]:
    """The tiers. One proxy has the virtual address and carries everything; app hosts and nodes share."""
    app_us = costs.get("store", 0) + costs.get("front", 0)
    if asked.engine == "etcd":  # on the app hosts; every member takes part in every read
        app_us += costs["database"]
    found = [
        model.Need("proxies", costs["proxy"], asked.proxies, active=1, spare=0),
        model.Need("apps", app_us, asked.apps, active=asked.apps, spare=min(1, asked.apps - 1)),
    ]
    if asked.engine == "fdb":
        found.append(
            model.Need("fdb", costs["database"], asked.nodes, active=asked.nodes, spare=min(1, asked.nodes - 1))
        )
    return found


def says(found: Mapping) -> list[str]:
    """The answer, its most important line first."""
    asked = found["asked"]
    sizes = ", ".join(f"{tier['machines']} {tier['name']} with {_cores(tier)}" for tier in found["tiers"])
    lines = [
        f"{asked['rate']:,.0f} reads/s, p99 {asked['p99_ms']:g} ms, {asked['lane']} lane on {asked['engine']},"
        f" also with one host of a tier lost: {sizes}.",
        f"First to give: {found['gives_first']}, at {found['most_per_second']:,} reads/s with one host lost.",
        f"p99 {found['p99_ms']:.1f} ms with all hosts"
        + ("" if found["p99_one_lost_ms"] is None else f", {found['p99_one_lost_ms']:.1f} ms with one lost")
        + f". Cores may be used to {found['allowed_utilisation']:.0%}.",
    ]
    if found["fronts_per_app"]:
        lines.append(
            f"front_workers: {found['fronts_per_app']} on each app host; each serves one request at a time."
        )
    lines.append(f"Measured: p99 in {found['from']['curve']}, CPU time in {found['from']['costs']}.")
    return lines


def text(found: Mapping) -> str:
    """For people."""
    lines = [("tier", "machines", "cores each", "µs a read", "used", "one lost", "gives at, one lost")]
    for tier in found["tiers"]:
        lost = tier["utilisation_one_lost"]
        lines.append((tier["name"], str(tier["machines"]), str(tier["cores"]), f"{tier['us_per_request']:.1f}",
                      f"{tier['utilisation']:.0%}", "-" if lost is None else f"{lost:.0%}",
                      f"{tier['most_per_second']:,.0f}/s"))  # fmt: skip
    return "\n".join([found["says"][0], "", aligned(lines), "", *found["says"][1:]])


def _cores(tier: Mapping) -> str:
    what = "process" if tier["name"] == "fdb" else "core"
    many = what + ("es" if what == "process" else "s")
    return f"{tier['cores']} {what if tier['cores'] == 1 else many} each"


def _row(document: Mapping, engine: str, lane: str) -> Mapping | None:
    rows = [row for row in document.get("rows", ()) if (row["engine"], row["path"]) == (engine, lane)]
    return rows[0] if rows else None


def _costs(by_part: Mapping[str, float], database_us: float) -> dict[str, float]:
    return {part: by_part.get(part, 0.0) for part in PARTS} | {"database": database_us}
