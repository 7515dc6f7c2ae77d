"""The two loads: wrk finds out how much a path can do, load.c how long it takes at a given rate."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ops.errors import Failure, UserError

FOLDER = Path(__file__).parent
LATE_MS, LATE_SHARE = 1.0, 0.2  # a generator that is later than both of these spoils a p99
BUSY_SHARE = 0.85
PRIORITY = -10  # the open loop needs little of its core, but at the right moment; the path gets no priority


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


def build(directory: Path) -> Path:
    """Compiles load.c; the program."""
    if not shutil.which("cc"):
        raise UserError("bench: there is no C compiler: apt-get install gcc libc6-dev")
    program = directory / "load"
    done = subprocess.run(
        ["cc", "-O2", "-o", str(program), str(FOLDER / "load.c"), "-lm"], capture_output=True, text=True
    )
    if done.returncode:
        raise Failure(f"bench: load.c does not compile: {done.stderr.strip()}")
    return program


def saturate(
    port: int, lane: str, seconds: float, profiles: int, connections: int, cores: Iterable[int]
) -> Saturation:
    """wrk with one thread for `seconds`, on random profiles."""
    command = [
        "wrk", "--threads=1", f"--connections={connections}", f"--duration={max(1, round(seconds))}s",
        "--timeout=5s", f"--script={FOLDER / 'wrk.lua'}", f"http://127.0.0.1:{port}/", "--", str(profiles), lane,
    ]  # fmt: skip
    return parse_saturation(_run(command, seconds + 15, cores))


def open_loop(
    program: Path, port: int, lane: str, rate: float, warm_up: float, seconds: float, profiles: int,
    connections: int, cores: Iterable[int] = (),
) -> Latency:  # fmt: skip
    """load.c at `rate` requests/s; the first `warm_up` seconds do not count.

    What falls due while all `connections` are busy waits, and its latency with it.
    """
    command = [str(program), str(port), str(connections), f"{rate:.3f}", f"{warm_up:g}", f"{seconds:g}",
               str(profiles), lane]  # fmt: skip
    return parse_latency(_run(command, warm_up + seconds + 15, cores, priority=PRIORITY))


def parse_saturation(text: str) -> Saturation:
    """From wrk's output: wrk.lua writes one line of JSON at its end."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise Failure(f"bench: no result in wrk's output: {text.strip()[-200:]}")
    found = json.loads(lines[-1])
    errors = {kind: count for kind, count in found["errors"].items() if count}
    good = found["requests"] - errors.get("wrong_status", 0)
    return Saturation(good, good / found["seconds"], errors)


def parse_latency(text: str) -> Latency:
    """From load.c's output. A latency that says more about the generator than about the path is refused."""
    found = json.loads(text)
    late, share = found["late_p99_ms"], found["cpu_share"]
    refused = ""
    if share > BUSY_SHARE:
        refused = f"the generator took {share:.0%} of its core"
    elif late > max(LATE_MS, LATE_SHARE * found["p99_ms"]):
        refused = f"the generator was {late:.1f} ms late itself"
    return Latency(
        rate=found["rate"],
        p50_ms=None if refused else found["p50_ms"],
        p99_ms=None if refused else found["p99_ms"],
        max_ms=found["max_ms"],
        generator_late_p99_ms=late,
        generator_cpu_share=share,
        errors=found["errors"],
        refused=refused,
    )


def _run(command: list[str], limit_seconds: float, cores: Iterable[int], priority: int = 0) -> str:
    wanted = set(cores) or os.sched_getaffinity(0)

    def prepare() -> None:
        os.sched_setaffinity(0, wanted)
        if priority < os.getpriority(os.PRIO_PROCESS, 0):
            with contextlib.suppress(OSError):  # only root may
                os.setpriority(os.PRIO_PROCESS, 0, priority)

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_seconds, stdin=subprocess.DEVNULL,
            preexec_fn=prepare,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failure(f"bench: {Path(command[0]).name} did not end within {limit_seconds:.0f} s") from None
    if done.returncode:
        raise Failure(f"bench: {Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout
