"""`griddle bench compare`: two results of `bench read` side by side, and whether a difference is more than noise.

A run's own noise is seen by resampling it: its seconds are drawn again in blocks, for neighbours resemble each
other (Künsch 1989, the moving block bootstrap), and the ratio of percentiles is taken each time. What happens to
differ between one run and the next is in neither of the two: only more runs of the same thing show it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from hdrh.histogram import HdrHistogram

from ops.bench import html, results, where
from ops.bench.generator import histogram
from ops.errors import UserError
from ops.progress import say

DRAWS = 200
OTHERS_NOTED = 0.1  # cores


def bench_compare(a: str, b: str, *, as_json: bool) -> None:
    """Print, and write a page. `a`, `b`: see `results.load`. Raises UserError."""
    one, other = results.load(a), results.load(b)
    for name, document in ((a, one), (b, other)):
        if document.get("kind") != "read" or not document.get("lanes"):
            raise UserError(f"{name} is no result of bench read --rate or --ramp")
    found = compared(_short(a), one, _short(b), other)
    page = html.write(results.RESULTS / f"compare-{found['a']}-{found['b']}.json", found)
    if as_json:
        print(json.dumps(results.without_histograms(found), indent=2))
    else:
        print(text(found))
    say(f"report: {page}")


def compared(a: str, one: Mapping, b: str, other: Mapping) -> dict:
    """{"lanes": {lane: {"rows": [...]}}, "differs": [...], "says": [...]}."""
    lanes = [lane for lane in one["lanes"] if lane in other["lanes"]]
    if not lanes:
        raise UserError(f"{a} and {b} have no lane in common")
    found = {
        lane: {
            "a": one["lanes"][lane],
            "b": other["lanes"][lane],
            "rows": rows(one["lanes"][lane], other["lanes"][lane]),
        }
        for lane in lanes
    }
    return {
        "kind": "compare",
        "a": a,
        "b": b,
        "lanes": found,
        "says": [*map(_p99, found, found.values()), *notes(one, other)],
        "differs": where.differences(one["what"], other["what"]),
    }


def rows(a: Mapping, b: Mapping) -> list[dict]:
    """One per percentile: both, their ratio, and where that lies when the seconds are drawn again."""
    draw = random.Random(1)
    seconds = [[HdrHistogram.decode(each["histogram"]) for each in run["seconds"]] for run in (a, b)]
    drawn = [[results.percentiles(redrawn(run, draw)) for run in seconds] for _ in range(DRAWS)]
    found = []
    for name in results.PERCENTILES:
        ratios = sorted(two[name] / one[name] for one, two in drawn if one[name])
        low, high = (
            (ratios[round(share * (len(ratios) - 1))] for share in (0.025, 0.975)) if ratios else (1.0, 1.0)
        )
        says = "no difference seen" if low <= 1 <= high else "higher" if low > 1 else "lower"
        ratio = b[name] / a[name] if a[name] else math.nan
        label = name.removesuffix("_ms").replace("999", "99.9")
        found.append({"name": label, "a": a[name], "b": b[name], "ratio": round(ratio, 3), "low": round(low, 3),
                      "high": round(high, 3), "says": says})  # fmt: skip
    return found


def redrawn(seconds: Sequence[HdrHistogram], draw: random.Random) -> HdrHistogram:
    """As many seconds, in blocks of neighbours that begin anywhere."""
    block = max(1, round(math.sqrt(len(seconds))))
    whole, left = histogram(), len(seconds)
    while left > 0:
        first = draw.randrange(len(seconds) - min(block, left) + 1)
        for each in seconds[first : first + min(block, left)]:
            whole.add(each)
        left -= block
    return whole


def notes(one: Mapping, other: Mapping) -> list[str]:
    """What a reader must know before the figures."""
    found = []
    if one["rate"] != other["rate"]:
        found.append(f"The rates differ: {one['rate']:,.0f} and {other['rate']:,.0f} requests/s.")
    for key in ("seconds", "connections", "profiles"):
        if one["plan"][key] != other["plan"][key]:
            found.append(f"The plans differ: {key} {one['plan'][key]} and {other['plan'][key]}.")
    for name, document in (("A", one), ("B", other)):
        if (others := document.get("others_cores") or 0) > OTHERS_NOTED:
            found.append(f"{name}: other work on this machine took {others:.2f} cores meanwhile.")
    found.append(
        "The intervals are of the noise within each run. Noise between runs: measure A twice, and compare those."
    )
    return found


def text(found: Mapping) -> str:
    """For people."""
    lines = [f"A {found['a']}", f"B {found['b']}"]
    for lane, each in found["lanes"].items():
        lines.append(f"\n{lane:<7}{'A ms':>10}{'B ms':>10}{'B / A':>8}   95 % interval")
        lines += [
            f"{row['name']:<7}{row['a']:>10.2f}{row['b']:>10.2f}{row['ratio']:>8.2f}   "
            f"{row['low']:.2f} to {row['high']:.2f}  {row['says']}"
            for row in each["rows"]
        ]
        cpu = [f"{name}: {part['shed']:,} shed, {sum(part['errors'].values()):,} errors"
               for name, part in (("A", each["a"]), ("B", each["b"]))]  # fmt: skip
        lines.append("; ".join(cpu))
    lines += ["", *found["says"]]
    if found["differs"]:
        lines += ["What ran differs:", *(f"  {line}" for line in found["differs"])]
    return "\n".join(lines)


def _p99(lane: str, found: Mapping) -> str:
    row = next(row for row in found["rows"] if row["name"] == "p99")
    return (
        f"{lane}: p99 of B is {row['ratio']:.2f} times A's ({row['low']:.2f} to {row['high']:.2f}): {row['says']}."
    )


def _short(name: str) -> str:
    return Path(name).stem
