"""`griddle capacity --check`: how well the model predicts saturations that were measured.

Of the results of `bench read --saturate` that are named, per engine and lane, those with the most store workers
calibrate: two of them, with few and with many connections. The others are predicted from these two alone. In the
lab all hosts share this machine's cores: what a request costs is the sum over all hosts and the load itself, and
what other work took of the cores meanwhile is not there for it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from cluster.errors import UserError
from cluster.table import aligned
from ops.bench import capacity as model
from ops.bench import results
from ops.bench.capacity import Loop


def show(names: Sequence[str], *, as_json: bool) -> None:
    """Print what was measured beside what is predicted. `names`: see `results.load`."""
    found = rows([results.load(name) for name in names])
    print(json.dumps(found, indent=2) if as_json else text(found))


def text(found: Sequence[Mapping]) -> str:
    """For people."""
    lines = [("engine", "lane", "store workers", "fronts", "connections", "measured", "predicted", "off by")]
    for row in found:
        said = "calibrates" if row["predicted"] is None else f"{row['predicted']:,.0f}"
        off = "" if row["predicted"] is None else f"{row['predicted'] / row['measured'] - 1:+.0%}"
        lines.append((row["engine"], row["lane"], str(row["store_workers"]), str(row["fronts"] or "-"),
                      str(row["connections"]), f"{row['measured']:,.0f}", said, off))  # fmt: skip
    return aligned(lines)


def rows(documents: Sequence[Mapping]) -> list[dict]:
    """One for each result: its configuration, what was measured, what is predicted; None where it calibrates."""
    groups: dict[tuple[str, str], list[Loop]] = defaultdict(list)
    for document in documents:
        engine, lane, loop = loop_of(document)
        groups[engine, lane].append(loop)
    found = []
    for (engine, lane), loops in groups.items():
        loops.sort(key=lambda loop: (-loop.store_workers, loop.connections))
        most = [loop for loop in loops if loop.store_workers == loops[0].store_workers]
        if len(most) < 2:
            raise UserError(
                f"capacity --check: {engine}, {lane}: two results with {most[0].store_workers} store workers are "
                "needed to calibrate, and there is one: measure again with other --connections"
            )
        calibrates = (most[0], most[-1])
        found += [
            {
                "engine": engine, "lane": lane, "store_workers": loop.store_workers, "fronts": loop.fronts,
                "connections": loop.connections, "measured": loop.rate,
                "predicted": None if loop in calibrates else model.predicted(calibrates, loop),
            }
            for loop in loops
        ]  # fmt: skip
    return found


def loop_of(document: Mapping) -> tuple[str, str, Loop]:
    """(engine, lane, loop) of a result of `bench read --saturate` on the lab."""
    seen = document.get("saturated")
    if not seen or document.get("others_cores") is None or not document["cpu_us"]:
        raise UserError("capacity --check: only results of bench read --saturate on the lab, with CPU time")
    apps = [facts for facts in document["what"]["hosts"].values() if facts and facts.get("store_workers")]
    rate, lane = seen["requests_per_second"], seen["lane"]
    loop = Loop(
        rate=rate,
        cost_us=sum(document["cpu_us"].values()) + document["generator_cores"] * 1e6 / rate,
        cores=document["what"]["generator"]["cores"] - document["others_cores"],
        connections=document["plan"]["connections"],
        store_workers=sum(facts["store_workers"] for facts in apps),
        fronts=sum(facts["front_workers"] for facts in apps) if lane == "wsgi" else None,
    )
    return apps[0]["engine"], lane, loop
