"""The two loads: wrk finds out how much a path can do, load.c how long it takes at a given rate."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import Failure
from ops.bench import generator
from ops.bench.generator import Offered

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Saturation:
    """What a closed loop got through: every connection asks again as soon as it is answered."""

    requests: int  # that were answered as they should be
    requests_per_second: float
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Latency:
    """What an open loop saw. Percentiles are None where the generator itself was too late; `refused` says why."""

    rate: float
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float
    generator_late_p99_ms: float
    generator_cpu_share: float
    errors: dict[str, int] = field(default_factory=dict)
    refused: str = ""


def saturate(
    port: int, lane: str, seconds: float, profiles: int, connections: int, cores: Iterable[int],
    address: str = "127.0.0.1",
) -> Saturation:  # fmt: skip
    """wrk with one thread for `seconds`, on random profiles."""
    command = [
        "wrk", "--threads=1", f"--connections={connections}", f"--duration={max(1, round(seconds))}s",
        "--timeout=5s", f"--script={FOLDER / 'wrk.lua'}", f"http://{address}:{port}/", "--", str(profiles), lane,
    ]  # fmt: skip
    return parse_saturation(_wrk(command, seconds + 15, cores))


def open_loop(
    program: Path, port: int, lane: str, rate: float, warm_up: float, seconds: float, profiles: int,
    connections: int, cores: Iterable[int] = (),
) -> Latency:  # fmt: skip
    """load.c at `rate` requests/s on loopback; the first `warm_up` seconds do not count."""
    offered = Offered("127.0.0.1", port, lane, rate, warm_up, seconds, profiles, connections)
    return latency(rate, generator.run(program, [offered], cores=cores))


def parse_saturation(text: str) -> Saturation:
    """From wrk's output: wrk.lua writes one line of JSON at its end."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise Failure(f"bench: no result in wrk's output: {text.strip()[-200:]}")
    found = json.loads(lines[-1])
    errors = {kind: count for kind, count in found["errors"].items() if count}
    good = found["requests"] - errors.get("wrong_status", 0)
    return Saturation(good, good / found["seconds"], errors)


def latency(rate: float, ran: generator.Ran) -> Latency:
    """Of one generator's run. A latency that says more about the generator than about the path is refused."""
    whole = generator.merged(ran.seconds[0])
    p99_ms = generator.percentile_ms(whole.latency, 99)
    refused = generator.refusal(p99_ms, ran.late_p99_ms, ran.cpu_share)
    return Latency(
        rate=rate,
        p50_ms=None if refused else generator.percentile_ms(whole.latency, 50),
        p99_ms=None if refused else p99_ms,
        max_ms=generator.percentile_ms(whole.latency, 100),
        generator_late_p99_ms=ran.late_p99_ms,
        generator_cpu_share=ran.cpu_share,
        errors=dict(whole.errors),
        refused=refused,
    )


def _wrk(command: list[str], limit_seconds: float, cores: Iterable[int]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_seconds, stdin=subprocess.DEVNULL,
            preexec_fn=generator.prepared(cores),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failure(f"bench: wrk did not end within {limit_seconds:.0f} s") from None
    if done.returncode:
        raise Failure(f"bench: wrk failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout
