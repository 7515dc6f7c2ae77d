"""`griddle bench compare`: several runs of A beside several of B, and whether a difference is more than noise.

How it is judged is in tuning/statistics.py. Runs are paired by when they began; from one run of each nothing can
be said of what differs between runs of the same thing, and from maxima never.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from cluster.errors import UserError
from cluster.progress import say
from cluster.table import aligned
from ops.bench import html, results, where
from ops.bench.generator import histogram
from tuning.statistics import LEAST_PAIRS, Taken, in_turns, paired

OTHERS_NOTED = 0.1  # cores
NAMES = {name.removesuffix("_ms").replace("999", "99.9"): name for name in results.PERCENTILES}
PLANNED = ("seconds", "connections", "profiles")
Runs = Mapping[str, Mapping[str, Any]]


def bench_compare(names: Sequence[str], *, of: str, as_json: bool) -> None:
    """Print, and write a page. Raises UserError.

    :param names: two names, or two lists of names with -- between them; see `results.runs_of`
    :param of: the percentile whose difference is judged
    """
    (a, one), (b, other) = (_named(side) for side in _sides(names))
    if twice := one.keys() & other.keys():
        raise UserError(f"{', '.join(sorted(twice))}: on both sides of the comparison")
    found = compared(a, one, b, other, of)
    page = html.write(results.RESULTS / f"compare-{a}-{b}.json", found)
    if as_json:
        print(json.dumps(results.without_histograms(found), indent=2))
    else:
        print(text(found))
    say(f"report: {page}")


def _sides(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if "--" in names:
        at = list(names).index("--")
        a, b = names[:at], names[at + 1 :]
    else:
        a, b = names[:1], names[1:]
        if len(b) > 1:
            raise UserError("bench compare: A B, or several of each with -- between them: A... -- B...")
    if not (a and b):
        raise UserError("bench compare: two things are needed: A B, or A... -- B...")
    return a, b


def _named(names: Sequence[str]) -> tuple[str, Runs]:
    """What a side is called, and its runs."""
    runs: dict[str, Mapping[str, Any]] = {}
    for name in names:
        for path, document in results.runs_of(name).items():
            if document.get("kind") != "read" or not document.get("lanes"):
                raise UserError(f"{name} is no result of bench read --rate or --ramp")
            runs[str(path)] = document
    return Path(names[0]).stem, runs


def compared(a: str, one: Runs, b: str, other: Runs, of: str = "p99") -> dict:
    """{"lanes": {lane: {"a", "b", "rows"}}, "pairs", "differs": [...], "says": [...]}.

    :param a: what its runs are called; `one`: {key of a run: its document}
    """
    everything = [*one.values(), *other.values()]
    lanes = [lane for lane in everything[0]["lanes"] if all(lane in run["lanes"] for run in everything)]
    if not lanes:
        raise UserError(f"{a} and {b} have no lane in common")
    pairs = in_turns(
        [Taken(_began(run), side, key) for side, runs in (("a", one), ("b", other)) for key, run in runs.items()]
    )
    found = {}
    for lane in lanes:
        sides = [{key: run["lanes"][lane] for key, run in runs.items()} for runs in (one, other)]
        found[lane] = {
            "a": _summed(sides[0].values()),
            "b": _summed(sides[1].values()),
            "rows": [row(name, *sides, pairs, judged=name == NAMES[of]) for name in results.PERCENTILES],
        }
    said = [_judged(lane, each["rows"], of) for lane, each in found.items()]
    if len(pairs) < LEAST_PAIRS:
        said.append(_needed(len(one), len(other), len(pairs)))
    said += notes(one, other, pairs)
    return {
        "kind": "compare",
        "a": a,
        "b": b,
        "runs": [len(one), len(other)],
        "pairs": len(pairs),
        "lanes": found,
        "says": said,
        "differs": where.differences(_first(one)["what"], _first(other)["what"]),
    }


def row(name: str, a: Mapping, b: Mapping, pairs: Sequence[tuple[str, str]], *, judged: bool) -> dict:
    """One percentile: both sides' geometric means, and their ratio with its interval where there are pairs enough.

    A maximum is one request: the largest of each side is shown, and nothing is made of it.
    """
    values = [[run[name] for run in side.values()] for side in (a, b)]
    label = next(label for label, known in NAMES.items() if known == name)
    found = {"name": label, "low": None, "high": None, "p": None, "says": ""}
    if name == "max_ms" or not all(value > 0 for side in values for value in side):
        at = [max(side) for side in values]
        return found | {"a": at[0], "b": at[1], "ratio": round(at[1] / at[0], 3) if at[0] else None}
    at = [statistics.geometric_mean(side) for side in values]
    found |= {"a": at[0], "b": at[1], "ratio": round(at[1] / at[0], 3)}
    if len(pairs) < LEAST_PAIRS:
        return found
    seen = paired([(a[one][name], b[other][name]) for one, other in pairs])
    return found | {
        "ratio": round(seen.ratio, 3),
        "low": round(seen.low, 3),
        "high": round(seen.high, 3),
        "p": round(seen.p, 4),
        "says": seen.verdict if judged else "",
    }


def _began(run: Mapping) -> float:
    return datetime.fromisoformat(run["what"]["time"]).timestamp()


def _first(runs: Runs) -> Mapping:
    return next(iter(runs.values()))


def _summed(runs: Any) -> dict:
    """One lane of several runs as if they were one, for the picture."""
    runs, whole = list(runs), histogram()
    for each in runs:
        whole.add(HdrHistogram.decode(each["histogram"]))
    return {
        "histogram": whole.encode().decode(),
        "shed": sum(each["shed"] for each in runs),
        "errors": sum(sum(each["errors"].values()) for each in runs),
    }


def _judged(lane: str, rows: Sequence[Mapping], name: str) -> str:
    one = next(each for each in rows if each["name"] == name)
    ratio = "unknown times" if one["ratio"] is None else f"{one['ratio']:.2f} times"
    if one["low"] is None:
        return f"{lane}: {one['name']} of B is {ratio} A's: no verdict."
    return (
        f"{lane}: {one['name']} of B is {ratio} A's ({one['low']:.2f} to {one['high']:.2f}; p {one['p']:.3f}):"
        f" {one['says']}."
    )


def _needed(a: int, b: int, pairs: int) -> str:
    return (
        f"{a} and {b} runs make {pairs} {'pair' if pairs == 1 else 'pairs'} that follow each other in time;"
        f" {LEAST_PAIRS} are needed to tell a difference from what differs between runs of the same thing:"
        f" ./griddle bench read --repeat {LEAST_PAIRS} --label A --label B --switch COMMAND"
    )


def notes(one: Runs, other: Runs, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What a reader must know before the figures."""
    found, everything = [], {**one, **other}
    left = len(everything) - 2 * len(pairs)
    if left and len(pairs) >= LEAST_PAIRS:
        found.append(f"{left} runs have no neighbour of the other side, and are left out of the ratios.")
    first = {_began(everything[a]) < _began(everything[b]) for a, b in pairs}
    if len(first) == 1 and len(pairs) >= LEAST_PAIRS:
        found.append(
            f"{'A' if first == {True} else 'B'} was always the first of its pair: what grows from run to run is in"
            " the ratios. --repeat turns the order round."
        )
    for what, values in (
        ("rates", {f"{run['rate']:,.0f}" for run in everything.values()}),
        *((key, {str(run["plan"][key]) for run in everything.values()}) for key in PLANNED),
    ):
        if len(values) > 1:
            found.append(f"The runs differ in what was offered: {what} {', '.join(sorted(values))}.")
    for name, runs in (("A", one), ("B", other)):
        changed = {line for run in runs.values() for line in where.differences(_first(runs)["what"], run["what"])}
        if changed:
            found.append(f"{name}'s own runs are of different things: {'; '.join(sorted(changed)[:3])}.")
        others = max((run.get("others_cores") or 0 for run in runs.values()), default=0)
        if others > OTHERS_NOTED:
            found.append(f"{name}: other work on this machine took up to {others:.2f} cores meanwhile.")
    return found


def text(found: Mapping) -> str:
    """For people."""
    lines = [f"{side} {found[side.lower()]}: {runs} runs" for side, runs in zip("AB", found["runs"], strict=True)]
    for lane, each in found["lanes"].items():
        rows = [(lane, "A ms", "B ms", "B / A", "95 % interval", "")]
        for one in each["rows"]:
            interval = "" if one["low"] is None else f"{one['low']:.2f} to {one['high']:.2f}"
            ratio = "-" if one["ratio"] is None or math.isnan(one["ratio"]) else f"{one['ratio']:.2f}"
            rows.append((one["name"], f"{one['a']:.2f}", f"{one['b']:.2f}", ratio, interval, one["says"]))
        lines += ["", aligned(rows, left=(0, 4, 5))]
        lines.append(
            "; ".join(f"{name}: {part['shed']:,} shed, {part['errors']:,} errors"
                      for name, part in (("A", each["a"]), ("B", each["b"])))
        )  # fmt: skip
    lines += ["", *found["says"]]
    if found["differs"]:
        lines += ["What ran differs:", *(f"  {line}" for line in found["differs"])]
    return "\n".join(lines)
