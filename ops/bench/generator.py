"""load.c: requests at a constant rate that does not wait for answers, and what came of them second by second.

Rates of several generators add up: Poisson arrivals of n at rate/n are those of one at the rate.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hdrh.histogram import HdrHistogram

from cluster.errors import Failure, UserError

SOURCE = Path(__file__).parent / "load.c"
LATE_MS, LATE_SHARE = 1.0, 0.2  # a generator that is later than both of these spoils a p99
BUSY_SHARE = 0.85
PRIORITY = -10  # before what else this machine does, which is none of the path's latency
WAITED = ("timeout", "not_answered")


@dataclass(frozen=True)
class Offered:
    """What one generator offers: `rate` requests/s for `warm_up` seconds, which do not count, and `seconds`.

    What falls due while all `connections` are busy waits, and its latency with it.
    """

    address: str
    port: int
    lane: str
    rate: float
    warm_up: float
    seconds: float
    profiles: int
    connections: int
    timeout: float = 5

    def command(self, program: Path, seed: int) -> list[str]:
        return [str(program), self.address, str(self.port), str(self.connections), f"{self.rate:.3f}",
                f"{self.warm_up:g}", f"{self.seconds:g}", str(self.profiles), self.lane, f"{self.timeout:g}",
                str(seed)]  # fmt: skip


@dataclass
class Second:
    """One second, or several merged: requests that were sent, latencies from when they fell due, errors by kind.

    `latency` holds the good answers, and the requests that were given up (WAITED) with the time that they had
    waited. Errors: those; `shed` (503 with Retry-After); status_<code>, wrong_body, connect, broken_connection.
    """

    second: int = 0
    due: int = 0
    latency: HdrHistogram = field(default_factory=lambda: histogram())
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> int:
        """Answers as they should be."""
        return self.latency.total_count - sum(self.errors[kind] for kind in WAITED)

    @property
    def failed(self) -> int:
        """All that were not answered as they should be, without those that were shed."""
        return sum(self.errors.values()) - self.errors["shed"]


@dataclass(frozen=True)
class Ran:
    """What each generator saw, in the order in which they were given, and how they themselves did."""

    seconds: list[list[Second]]
    late: HdrHistogram  # from when a request was due and a connection free until it was sent
    cpu_share: float  # of a core, the busiest generator's

    @property
    def late_p99_ms(self) -> float:
        return percentile_ms(self.late, 99)


@contextlib.contextmanager
def built() -> Iterator[Path]:
    """The program, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="griddle-load-") as directory:
        yield build(Path(directory))


def build(directory: Path) -> Path:
    """Compiles load.c; the program."""
    if not shutil.which("cc"):
        raise UserError("bench: there is no C compiler: apt-get install gcc libc6-dev")
    program = directory / "load"
    done = subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE), "-lm"], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"bench: load.c does not compile: {done.stderr.strip()}")
    return program


def run(
    program: Path, generators: Sequence[Offered], on_second: Callable[[list[Second]], None] | None = None,
    cores: Iterable[int] = (),
) -> Ran:  # fmt: skip
    """Runs generators side by side, of equal duration.

    `on_second` is given the newest second of each as soon as all have ended it.
    """
    prepare = prepared(cores, punctual=True)
    processes = [
        subprocess.Popen(
            offered.command(program, seed), text=True, preexec_fn=prepare, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for seed, offered in enumerate(generators, 1)
    ]  # fmt: skip
    seen: list[list[Second]] = [[] for _ in generators]
    try:
        while True:
            lines = []
            for process in processes:
                lines.append(process.stdout.readline())
                if not lines[-1]:  # ended before its time; the others have theirs still before them
                    said = process.stderr.read().strip()
                    raise Failure(f"bench: {said or 'the generator ended without a word'}")
            found = [json.loads(line) for line in lines]
            if "late" in found[0]:
                break
            for each, one in zip(seen, found, strict=True):
                each.append(Second(one["second"], one["due"], histogram(one["latency"]), Counter(one["errors"])))
            if on_second:
                on_second([each[-1] for each in seen])
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    late = histogram()
    for one in found:
        late.add(histogram(one["late"]))
    return Ran(seen, late, max(one["cpu_share"] for one in found))


def merged(seconds: Iterable[Second]) -> Second:
    """All of them as if they were one."""
    whole = Second()
    for each in seconds:
        whole.latency.add(each.latency)
        whole.errors.update(each.errors)
        whole.due += each.due
    return whole


def histogram(counts: Iterable[tuple[int, int]] = ()) -> HdrHistogram:
    """Of microseconds, to 3 significant digits, up to what load.c can tell (71 minutes)."""
    made = HdrHistogram(1, 2**32, 3)
    for us, count in counts:
        made.record_value(max(1, us), count)
    return made


def percentile_ms(of: HdrHistogram, percent: float) -> float:
    """0.0 where nothing was measured."""
    return of.get_value_at_percentile(percent) / 1000 if of.total_count else 0.0


def refusal(p99_ms: float, late_p99_ms: float, cpu_share: float) -> str:
    """Why a p99 says more about the generator than about what it loads; empty where it does not."""
    if cpu_share > BUSY_SHARE:
        return f"the generator took {cpu_share:.0%} of its core"
    if late_p99_ms > max(LATE_MS, LATE_SHARE * p99_ms):
        return f"the generator was {late_p99_ms:.1f} ms late itself"
    return ""


def prepared(cores: Iterable[int], *, punctual: bool = False) -> Callable[[], None]:
    """For ``preexec_fn``: on these cores (none: all), before other work where this user may.

    :param punctual: at once when it wakes, as a real-time process: else it is late by what others' time slices
        leave it (sched(7)), and niceness counts only within a session where the kernel shares out by those
    """
    wanted = set(cores) or os.sched_getaffinity(0)

    def prepare() -> None:
        os.sched_setaffinity(0, wanted)
        with contextlib.suppress(OSError):  # only root may
            if punctual:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            else:
                os.setsid()
                Path("/proc/self/autogroup").write_text(str(PRIORITY))

    return prepare
