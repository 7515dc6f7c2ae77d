"""Results of measurements: what of a run is kept, the files under results/, and the newest of a kind."""

from __future__ import annotations

import glob
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from cluster.errors import UserError
from cluster.paths import ROOT
from ops.bench.generator import Second, merged, percentile_ms

RESULTS = ROOT / "results"
STAMP = "%Y%m%dT%H%M%SZ"
PERCENTILES = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "p999_ms": 99.9, "max_ms": 100}


def summary(seconds: Sequence[Second], length: float, promise_ms: float) -> dict:
    """One lane's run of `length` seconds, for people and for the file.

    Histograms are HdrHistogram's own compressed text (V2), of microseconds.
    """
    whole = merged(seconds)
    return {
        "requests": whole.due,
        "good_per_second": round(whole.good / length, 1),
        **percentiles(whole.latency),
        "within_promise": round(within(whole.latency, promise_ms) / max(1, whole.due), 6),
        "shed": whole.errors["shed"],
        "errors": {kind: count for kind, count in whole.errors.items() if kind != "shed" and count},
        "histogram": whole.latency.encode().decode(),
        "seconds": [
            {
                "due": each.due,
                "good": each.good,
                "p50_ms": percentile_ms(each.latency, 50),
                "p99_ms": percentile_ms(each.latency, 99),
                "shed": each.errors["shed"],
                "failed": each.failed,
                "histogram": each.latency.encode().decode(),
            }
            for each in seconds
        ],
    }


def percentiles(of: HdrHistogram) -> dict[str, float]:
    """{name of PERCENTILES: ms}; 0.0 where nothing was measured."""
    if not of.total_count:
        return dict.fromkeys(PERCENTILES, 0.0)
    found = of.get_percentile_to_value_dict(list(PERCENTILES.values()))  # all in one pass
    return {name: found[percent] / 1000 for name, percent in PERCENTILES.items()}


def within(of: HdrHistogram, ms: float) -> int:
    """How many took no longer than that. Those given up have waited longer than any promise."""
    return sum(
        each.count_added_in_this_iter_step
        for each in of.get_recorded_iterator()
        if each.value_iterated_to <= ms * 1000
    )


def without_histograms(document: Mapping) -> dict:
    """For the screen: the same without what only programs read."""
    return {
        key: without_histograms(value)
        if isinstance(value, Mapping)
        else [without_histograms(each) if isinstance(each, Mapping) else each for each in value]
        if isinstance(value, list)
        else value
        for key, value in document.items()
        if key != "histogram" and not (key == "seconds" and isinstance(value, list))
    }


def save(kind: str, document: Mapping) -> Path:
    """results/bench-<kind>-[<label>-]<time>.json."""
    RESULTS.mkdir(exist_ok=True)
    name = "-".join(["bench", kind, *filter(None, [document.get("label")]), time.strftime(STAMP, time.gmtime())])
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def load(name: str) -> dict:
    """A saved result by its path, or by its name under results/."""
    path = _path(name)
    if path is None:
        raise UserError(f"there is no result {name}: name a file, or one in {RESULTS}")
    return _read(path)


def runs_of(name: str) -> dict[Path, dict]:
    """{path: result}: one by its path or its name under results/, or all of a label, the oldest first."""
    if path := _path(name):
        return {path.resolve(): _read(path)}
    found = {
        path.resolve(): _read(path) for path in sorted(RESULTS.glob(f"bench-read-{glob.escape(name)}-*.json"))
    }
    found = {path: document for path, document in found.items() if document.get("label") == name}
    if not found:
        raise UserError(f"there is no result {name}: name a file, one in {RESULTS}, or a label of bench read")
    return found


def _path(name: str) -> Path | None:
    return next((path for path in (Path(name), RESULTS / name, RESULTS / f"{name}.json") if path.is_file()), None)


def _read(path: Path) -> dict:
    try:
        document = _parsed(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no result of bench: {error}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} is no result of bench: it is no object of JSON")
    return document


def _parsed(path: Path) -> Any:
    """JSON as the standard has it. Raises ValueError for what only Python writes and takes: Infinity, NaN."""

    def finite(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise ValueError(f"{text} is no number to compute with")
        return number

    return json.loads(path.read_text(), parse_float=finite, parse_constant=finite)


def all_of(kind: str, directory: Path = RESULTS) -> Iterable[tuple[Path, dict]]:
    """Saved results of a kind, the newest first; unreadable ones are passed over."""
    for path in sorted(directory.glob(f"bench-{kind}-*.json"), reverse=True):
        try:
            yield path, _parsed(path)
        except ValueError:
            continue
