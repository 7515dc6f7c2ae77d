"""From measured rounds to rows, a table and the ratios between paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from ops.bench.load import Latency, Saturation

PYTHON_PEERS = ("falcon", "fastapi", "flask")


@dataclass(frozen=True)
class Round:
    """One path once: CPU in microseconds per request at saturation, the database's (on its own core) apart."""

    path: str
    saturation: Saturation
    cpu_us: Mapping[str, float]
    database_us: float
    core_share: float  # of the path's core, that the path itself used
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

    CPU times are those of the round with the median total, both percentiles those of the round with the median
    p99: parts of different runs do not add up, and percentiles have no mean. Errors are those of all rounds.
    """
    by_cpu = sorted(rounds, key=lambda each: each.total_us)[(len(rounds) - 1) // 2]
    timed = sorted((r for r in rounds if r.latency.p99_ms is not None), key=lambda r: r.latency.p99_ms)
    latency = timed[(len(timed) - 1) // 2].latency if timed else rounds[-1].latency
    return {
        "path": by_cpu.path,
        "engine": engine,
        "requests_per_second": round(median(r.saturation.requests_per_second for r in rounds)),
        "cpu_us_per_request": {
            **{role: round(us, 1) for role, us in by_cpu.cpu_us.items()},
            "total": round(by_cpu.total_us, 1),
        },
        "p50_ms": _rounded(latency.p50_ms),
        "p99_ms": _rounded(latency.p99_ms),
        "errors": sum(r.errors for r in rounds),
        "database_us_per_request": round(by_cpu.database_us, 1),
        "core_share": round(by_cpu.core_share, 2),
        "offered_per_second": round(latency.rate),
        "generator_late_p99_ms": latency.generator_late_p99_ms,
        "p99_refused": latency.refused,
        "store_mb": round(max(r.store_mb for r in rounds), 1),
    }


def rounds_of(rounds: Sequence[Round]) -> list[dict]:
    """Everything that was seen, for the file."""
    return [asdict(each) for each in rounds]


def table(rows: Sequence[Mapping]) -> str:
    """For people: one engine's rows."""
    heads = ("path", "requests/s", "proxy", "front", "store", "total", "database", "p50 ms", "p99 ms", "errors")
    lines = [heads]
    for each in rows:
        cpu = each["cpu_us_per_request"]
        lines.append(
            (
                each["path"], f"{each['requests_per_second']:,}",
                *(f"{cpu[role]:.1f}" if cpu[role] else "-" for role in ("proxy", "front", "store", "total")),
                f"{each['database_us_per_request']:.1f}" if each["database_us_per_request"] else "-",
                _text(each["p50_ms"]), _text(each["p99_ms"]), str(each["errors"]),
            )
        )  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(_aligned(line, widths)) for line in lines)


def ratios(rows: Sequence[Mapping]) -> list[str]:
    """What our lanes cost beside the best Python peer and beside Go, one line each."""
    cost = {each["path"]: each["cpu_us_per_request"]["total"] for each in rows}
    peers = {path: us for path, us in cost.items() if path in PYTHON_PEERS}
    found = []
    for lane in ("direct", "wsgi"):
        if lane in cost and peers:
            best = min(peers, key=peers.__getitem__)
            times = peers[best] / cost[lane]
            found.append(f"{lane}: {times:.2f} times fewer µs than {best}, the best Python peer")
        if lane in cost and "go" in cost:
            found.append(f"{lane}: {cost[lane] / cost['go']:.2f} times the µs of Go")
    return found


def notes(rows: Sequence[Mapping]) -> list[str]:
    """What a reader must know of single figures."""
    found = [
        f"{each['path']}: p50 and p99 are not given: {each['p99_refused']}" for each in rows if each["p99_refused"]
    ]
    for each in rows:
        if each["core_share"] < 0.85:
            found.append(
                f"{each['path']}: its own processes had {each['core_share']:.0%} of the core at saturation: the "
                "database, the load or other work on this machine held it up"
            )
    return found


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *numbers = zip(line, widths, strict=True)
    return [name[0].ljust(name[1]), *(cell.rjust(width) for cell, width in numbers)]


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 2)


def _text(ms: float | None) -> str:
    return "?" if ms is None else f"{ms:.2f}"
