"""The page beside a saved result, for whoever would rather look than read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hdrh.histogram import HdrHistogram

from ops.bench import charts, report
from ops.bench.generator import percentile_ms

# Where a percentile curve is looked at: evenly by how many nines it has.
NINES = [n / 10 for n in range(0, 41)]
MARKS = {0: "0", 1: "90 %", 2: "99 %", 3: "99.9 %", 4: "99.99 %"}
TIERS = ("proxy", "front", "store", "fdb", "etcd", "other")


def write(beside: Path, document: Mapping) -> Path:
    """The page of a result, beside its file."""
    made = {"read": read, "path": path, "curve": curve, "compare": compare, "capacity": capacity}[
        document["kind"]
    ](document)
    name = beside.with_suffix(".html")
    name.write_text(made)
    return name


def read(document: Mapping) -> str:
    """The page of `bench read`."""
    plan, what = document["plan"], document["what"]
    promise = (f"promise: {plan['promise_ms']:g} ms", plan["promise_ms"])
    lanes = document.get("lanes", {})
    parts, said = [], []
    if steps := document.get("steps"):
        said.append(
            f"The promise held at {document['held_per_second'] or 0:,.0f} requests/s"
            f" and broke at {document['broken_per_second']:,.0f}/s."
        )
        for name, key in (("p99", "p99_ms"), ("Answers", "good_per_second")):
            series = {
                lane: [(step["rate"], step["lanes"][lane][key]) for step in steps] for lane in steps[0]["lanes"]
            }
            unit, more = ("ms", {"log_y": True, "limit": promise}) if key == "p99_ms" else ("per second", {})
            parts.append(charts.lines(f"{name} by offered rate", series, "requests/s", unit, dots=True, **more))
    elif lanes:
        worst = max(lanes.values(), key=lambda lane: lane["p99_ms"])
        kept = document["outcome"] == "held"
        said.append(
            f"p99 {worst['p99_ms']:.1f} ms at {plan['rate']:,.0f} requests/s: the promise was "
            + ("kept." if kept else f"broken ({document['why']}).")
        )
    if found := document.get("saturated"):
        said.append(f"{found['requests_per_second']:,.0f} requests/s on the {found['lane']} lane, closed loop.")
    said.append(f"{what['target']}, revision {what['git']}, {what['time']}")
    if lanes:
        parts.append(_percentiles({lane: seen["histogram"] for lane, seen in lanes.items()}, promise))
        for lane, seen in lanes.items():
            seconds = seen["seconds"]
            parts.append(
                charts.lines(
                    f"{lane}: latency",
                    {name: [(at, each[key]) for at, each in enumerate(seconds) if each[key] > 0]
                     for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"))},
                    "seconds", "ms", log_y=True, limit=promise,
                )
            )  # fmt: skip
            counts = {
                name: [(at, each[key]) for at, each in enumerate(seconds)]
                for name, key in (("answered", "good"), ("shed", "shed"), ("failed", "failed"))
                if key == "good" or any(each[key] for each in seconds)
            }
            parts.append(charts.lines(f"{lane}: requests", counts, "seconds", "per second"))
        heads = ["lane", "requests", "good/s", "p50 ms", "p90", "p99", "p99.9", "max", "shed", "errors"]
        rows = [
            [lane, f"{seen['requests']:,}", f"{seen['good_per_second']:,.0f}",
             *(f"{seen[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")),
             f"{seen['shed']:,}", f"{sum(seen['errors'].values()):,}"]
            for lane, seen in lanes.items()
        ]  # fmt: skip
        parts.append(charts.table("Figures", heads, rows))
    if document.get("cpu_us"):
        parts.append(charts.bars("CPU time of a request", {"whole cluster": document["cpu_us"]}, "µs"))
    parts.append(_what(what))
    return charts.page("Griddle: bench read", said, parts)


def path(document: Mapping) -> str:
    """The page of `bench path`."""
    rows, machine = document["rows"], document["machine"]
    parts = []
    for engine in dict.fromkeys(row["engine"] for row in rows):
        mine = [row for row in rows if row["engine"] == engine]
        costs = {
            row["path"]: {role: us for role, us in row["cpu_us_per_request"].items() if role != "total"}
            for row in mine
        }
        rates = {row["path"]: {"requests/s": row["requests_per_second"]} for row in mine}
        parts.append(charts.bars(f"{engine}: CPU time of a request", costs, "µs"))
        parts.append(charts.bars(f"{engine}: one core's saturation", rates, "requests/s"))
        parts.append(charts.table(f"{engine}: figures, CPU time in µs", report.HEADS, report.cells(mine)))
    said = [
        "What an uncached read costs, by path",
        f"revision {machine['git']}, {machine['time']}, {machine['cpu']}",
    ]
    return charts.page("Griddle: bench path", said, [*parts, _what(machine)])


def curve(document: Mapping) -> str:
    """The page of `bench curve`."""
    parts = []
    points = [each for each in document["points"] if each["p99_ms"] is not None]
    series = {name: [(100 * each["share"], each[key]) for each in points]
              for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"))}  # fmt: skip
    parts.append(charts.lines("Latency by share of saturation", series, "%", "ms", log_y=True, dots=True))
    costs = {f"{each['share']:.0%} of saturation": each["cpu_us"] for each in document["points"]}
    parts.append(charts.bars("CPU time of a request", costs, "µs"))
    machine = document["machine"]
    said = [f"{document['lane']} lane on {document['engine']}: saturation {document['saturated_per_second']:,}"
            " requests/s of one core", f"revision {machine['git']}, {machine['time']}"]  # fmt: skip
    return charts.page("Griddle: bench curve", said, [*parts, _what(machine)])


def compare(document: Mapping) -> str:
    """The page of `bench compare`."""
    parts = []
    for lane, found in document["lanes"].items():
        curves = {f"A {document['a']}": found["a"]["histogram"], f"B {document['b']}": found["b"]["histogram"]}
        parts.append(_percentiles(curves, None, f"{lane}: "))
        heads = ["percentile", "A", "B", "B / A", "95 % interval", ""]
        rows = [
            [row["name"], f"{row['a']:.2f}", f"{row['b']:.2f}",
             "" if row["ratio"] is None else f"{row['ratio']:.2f}",
             "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}", row["says"]]
            for row in found["rows"]
        ]  # fmt: skip
        parts.append(charts.table(lane, heads, rows))
    if document["differs"]:
        parts.append(charts.table("What ran differs", ["", "A → B"], [line.split(": ", 1) for line in
                                                                     document["differs"]], text=True))  # fmt: skip
    return charts.page(f"Griddle: {document['a']} and {document['b']}", document["says"], parts)


def capacity(document: Mapping) -> str:
    """The page of `capacity`."""
    tiers = document["tiers"]
    used = {
        f"{tier['name']} ({tier['machines']})": {"used": round(100 * tier["utilisation"], 1)} for tier in tiers
    }
    lost = {
        f"{tier['name']}, one lost": {"used": round(100 * tier["utilisation_one_lost"], 1)}
        for tier in tiers
        if tier["utilisation_one_lost"] is not None
    }
    parts = [charts.bars("Utilisation", used | lost, "% of saturation", limit=100)]
    curve = document["latency"]
    series = {"measured": [(100 * u, ms) for u, ms in curve["measured"]],
              "model": [(100 * u, ms) for u, ms in curve["model"]]}  # fmt: skip
    parts.append(
        charts.lines("p99 by utilisation of the busiest tier", series, "%", "ms", log_y=True, dots=True,
                     limit=("promise", document["asked"]["p99_ms"]))
    )  # fmt: skip
    heads = ["tier", "machines", "cores each", "used", "with one lost", "µs per request"]
    rows = [
        [tier["name"], str(tier["machines"]), str(tier["cores"]), f"{tier['utilisation']:.0%}",
         "" if tier["utilisation_one_lost"] is None else f"{tier['utilisation_one_lost']:.0%}",
         f"{tier['us_per_request']:.1f}"]
        for tier in tiers
    ]  # fmt: skip
    parts.append(charts.table("Tiers", heads, rows))
    return charts.page("Griddle: capacity", document["says"], parts)


def _percentiles(histograms: Mapping[str, str], limit: tuple[str, float] | None, before: str = "") -> str:
    series = {}
    for name, text in histograms.items():
        one = HdrHistogram.decode(text)
        # no further than ten requests tell
        deepest = math.log10(max(10, one.total_count / 10))
        series[name] = [(nines, percentile_ms(one, 100 * (1 - 10**-nines))) for nines in NINES if nines <= deepest]
    last = max(x for points in series.values() for x, _ in points)
    title = f"{before}latency by percentile" if before else "Latency by percentile"
    return charts.lines(
        title, series, "of requests took no longer", "ms", log_y=True, limit=limit,
        x_marks=[mark for mark in MARKS if mark <= last], x_text=lambda x: MARKS.get(x, f"{1 - 10**-x:.3%}"),
    )  # fmt: skip


def _what(what: Mapping) -> str:
    """What ran where, hosts of a kind in one line."""
    rows: list[Sequence[str]] = []
    alike: dict[str, list[str]] = {}
    for name, facts in (what.get("hosts") or {}).items():
        said = "not reached" if facts is None else ", ".join(
            f"{key} {value}" for key, value in facts.items() if key != "groups"
        )  # fmt: skip
        alike.setdefault(said, []).append(name)
    for key, value in what.items():
        if key != "hosts" and value not in ("", None):
            said = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else value
            rows.append([key, ", ".join(map(str, said)) if isinstance(said, list) else str(said)])
    rows += [[", ".join(names), said] for said, names in alike.items()]
    return charts.table("What ran where", ["", ""], rows, text=True)
