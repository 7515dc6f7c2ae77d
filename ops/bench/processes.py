"""Child processes on chosen cores, and the CPU time that they have used."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cluster.paths import ROOT
from ops.process import die_with_parent

STOP_SECONDS = 10


class Process:
    """One command in a process group of its own, and whatever it starts there."""

    def __init__(
        self, role: str, command: Sequence[str], log: Path, cores: Iterable[int], **environment: str
    ) -> None:
        self.role, self.log = role, log
        wanted = set(cores)

        def prepare() -> None:
            os.sched_setaffinity(0, wanted)
            die_with_parent()

        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True, preexec_fn=prepare,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """The whole group, at once: what they hold is thrown away with them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def cpu_ns(self) -> int:
        """What all threads of the group's living processes have used."""
        return sum(cpu_ns(pid) for pid in family(self._process.pid))

    def resident_mb(self) -> float:
        """Memory that the group's processes hold, what they share counted for each."""
        return sum(resident_mb(pid) for pid in family(self._process.pid))


def resident_mb(pid: int) -> float:
    """Memory that a process holds, in 10^6 bytes; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in children.read_text().split()]
    return found


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a core of a process's living threads; 0 where it is gone.

    /proc/PID/schedstat would be its main thread alone, and /proc/PID/stat counts in ticks of 10 ms.
    """
    total = 0
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((thread / "schedstat").read_text().split()[0])
    return total


def prefer(pids: Iterable[int], priority: int) -> None:
    """Gives processes precedence over other work on this machine, where this user may.

    Where the kernel shares out by session, a process's niceness counts only within its own: sched(7), autogroup.
    """
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(priority))


def busy_ns(cores: Iterable[int]) -> int:
    """What these cores have worked since the machine was started."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in {f"cpu{core}" for core in cores}:
            user, nice, system, _idle, _wait, irq, softirq = map(int, ticks[:7])
            total += (user + nice + system + irq + softirq) * tick_ns
    return total


def children_ns() -> int:
    """What this process's children used that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def used_us(before: Mapping[str, int], after: Mapping[str, int], requests: float) -> dict[str, float]:
    """CPU time per request by role, in microseconds, from two readings in nanoseconds."""
    return {role: (after[role] - before[role]) / 1000 / max(1, requests) for role in after}
