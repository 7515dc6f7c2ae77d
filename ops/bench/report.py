"""From measured rounds to rows, a table and the ratios between paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cluster.table import aligned
from ops.bench.load import Latency, Saturation

PYTHON_PEERS = ("falcon", "fastapi", "flask")
OTHERS_NOTED, CORE_NOTED = 0.1, 0.85


@dataclass(frozen=True)
class Round:
    """One path once: CPU in microseconds per request at saturation, the database's (on its own core) apart."""

    path: str
    saturation: Saturation
    cpu_us: Mapping[str, float]
    database_us: float
    core_share: float  # of the path's core, that the path itself used
    others_saturated: float  # what neither path, database nor load used of the two cores, in cores
    others_open: float
    latency: Latency
    store_mb: float

    @property
    def total_us(self) -> float:
        return sum(self.cpu_us.values())

    @property
    def errors(self) -> int:
        return sum(self.saturation.errors.values()) + sum(self.latency.errors.values())


def row(engine: str, rounds: Sequence[Round]) -> dict:
    """One row of the result.

    Throughput and CPU times are those of the round in which other work on the machine took least at saturation,
    both percentiles those of the round in which it took least at the open load: parts of different runs do not
    add up, percentiles have no mean, and what disturbs only ever adds. Errors are those of all rounds.
    """
    by_cpu = min(rounds, key=lambda each: each.others_saturated)
    timed = min(
        [each for each in rounds if each.latency.p99_ms is not None] or rounds, key=lambda each: each.others_open
    )
    latency = timed.latency
    return {
        "path": by_cpu.path,
        "engine": engine,
        "requests_per_second": round(by_cpu.saturation.requests_per_second),
        "cpu_us_per_request": {
            **{role: round(us, 1) for role, us in by_cpu.cpu_us.items()},
            "total": round(by_cpu.total_us, 1),
        },
        "p50_ms": _rounded(latency.p50_ms),
        "p99_ms": _rounded(latency.p99_ms),
        "errors": sum(r.errors for r in rounds),
        "database_us_per_request": round(by_cpu.database_us, 1),
        "core_share": round(by_cpu.core_share, 2),
        "others_cores": {"saturated": round(by_cpu.others_saturated, 2), "open": round(timed.others_open, 2)},
        "offered_per_second": round(latency.rate),
        "generator_late_p99_ms": latency.generator_late_p99_ms,
        "p99_refused": latency.refused,
        "store_mb": round(max(r.store_mb for r in rounds), 1),
    }


def rounds_of(rounds: Sequence[Round]) -> list[dict]:
    """Everything that was seen, for the file."""
    return [asdict(each) for each in rounds]


HEADS = ("path", "requests/s", "proxy", "front", "store", "total", "database", "p50 ms", "p99 ms", "errors")


def table(rows: Sequence[Mapping]) -> str:
    """For people: one engine's rows."""
    return aligned([HEADS, *cells(rows)])


def cells(rows: Sequence[Mapping]) -> list[Sequence[str]]:
    """The rows below HEADS."""
    found = []
    for each in rows:
        cpu = each["cpu_us_per_request"]
        found.append(
            (
                each["path"], f"{each['requests_per_second']:,}",
                *(f"{cpu[role]:.1f}" if cpu[role] else "-" for role in ("proxy", "front", "store", "total")),
                f"{each['database_us_per_request']:.1f}" if each["database_us_per_request"] else "-",
                _text(each["p50_ms"]), _text(each["p99_ms"]), str(each["errors"]),
            )
        )  # fmt: skip
    return found


def ratios(rows: Sequence[Mapping]) -> list[str]:
    """What our lanes cost beside the best Python peer and beside Go, one line each."""
    cost = {each["path"]: each["cpu_us_per_request"]["total"] for each in rows}
    peers = {path: us for path, us in cost.items() if path in PYTHON_PEERS}
    found = []
    for lane in ("direct", "wsgi"):
        if lane in cost and peers:
            best = min(peers, key=peers.__getitem__)
            times = peers[best] / cost[lane]
            words = f"{times:.2f} times fewer µs than" if times >= 1 else f"{1 / times:.2f} times the µs of"
            found.append(f"{lane}: {words} {best}, the best Python peer")
        if lane in cost and "go" in cost:
            found.append(f"{lane}: {cost[lane] / cost['go']:.2f} times the µs of Go")
    return found


def notes(rows: Sequence[Mapping]) -> list[str]:
    """What a reader must know of single figures."""
    found = [
        f"{each['path']}: p50 and p99 are not given: {each['p99_refused']}" for each in rows if each["p99_refused"]
    ]
    for each in rows:
        others = max(each["others_cores"].values())
        if others > OTHERS_NOTED:
            found.append(f"{each['path']}: other work on this machine took {others:.0%} of a core meanwhile")
        elif each["core_share"] < CORE_NOTED:
            found.append(f"{each['path']}: had {each['core_share']:.0%} of its core: held up by database or load")
    return found


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 2)


def _text(ms: float | None) -> str:
    return "?" if ms is None else f"{ms:.2f}"
