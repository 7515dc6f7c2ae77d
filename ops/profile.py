"""`griddle profile`: a flame graph of a process that is at work on a host, without restarting it.

Python units are sampled by py-spy, one binary from the operator's own environment that is lent to the host for the
time of the profile; nginx by perf, which the host must have.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import Failure, UserError
from cluster.model import Host
from cluster.progress import say, step
from ops import hosts

FLAMEGRAPH = Path("/usr/share/perl5/Devel/NYTProf/flamegraph.pl")
GROUPS = {"front": "apps", "store": "apps", "feed": "apps", "proxy": "proxies"}
UNITS = {"front": "griddle-front@*.service", "store": "griddle-store@*.service", "feed": "griddle-feed@*.service",
         "proxy": "nginx.service"}  # fmt: skip
HERTZ = 100
SSH_SECONDS = 30
NOT_REACHED, NO_PERF = 255, 3

# A line for each process that serves: its unit, its id, the nanoseconds that it used; twice, half a second apart.
# A front is the child of its gunicorn, a worker of nginx that of its master.
_LOOK = """
set -u
pids() {{
    systemctl show -p Id -p MainPID --state=running {unit} | awk -F= '
        $1 == "Id" {{ id = $2 }} $1 == "MainPID" {{ pid = $2 }} id && pid {{ print id, pid; id = pid = "" }}'
}}
look() {{
    pids | while read -r unit main; do
        [ "$main" != 0 ] || continue
        for pid in {processes}; do
            sudo cat /proc/$pid/task/*/schedstat 2>/dev/null |
                awk -v of="$unit $pid" '{{ ns += $1 }} END {{ printf "%s %d\\n", of, ns }}'
        done
    done
}}
look; sleep 0.5; look
"""
_CHILDREN = "$(cat /proc/$main/task/*/children)"

# CPU that the profiler itself took is said last, on stderr: `user` and `sys` of time(1p).
_PY_SPY = """
set -eu
d=$(mktemp -d); trap 'rm -rf "$d"' EXIT
cat > "$d/py-spy"; chmod 755 "$d/py-spy"
time -p sudo "$d/py-spy" record --pid {pid} --duration {seconds} --rate {hertz} {native} --format flamegraph \
    --output "$d/out.svg" >"$d/said" 2>&1 || {{ tail -n 3 "$d/said" >&2; exit 1; }}
sudo cat "$d/out.svg"
"""
_PERF = """
set -eu
command -v perf >/dev/null || exit {no_perf}
fold=$(ls /usr/lib*/perf-core/scripts/python/stackcollapse.py | head -n 1)
d=$(mktemp -d); trap 'sudo rm -rf "$d"' EXIT
time -p sudo perf record -q -F {hertz} -g -p {pid} -o "$d/data" -- sleep {seconds} >"$d/said" 2>&1 || {{
    tail -n 5 "$d/said" >&2; exit 1; }}
sudo perf script -i "$d/data" -s "$fold" 2>/dev/null
"""


@dataclass(frozen=True)
class Worker:
    """One process that serves: `name` is slot and number of its unit, or the number of nginx's worker."""

    name: str
    pid: int
    busy: float  # share of a core


def profile(
    inventory: Path, name: str, unit: str, seconds: int, out: Path, worker: str | None, *, native: bool = False
) -> None:
    """Writes the flame graph. Raises UserError for what is not there, Failure where the profiler failed."""
    host = hosts.host(hosts.cluster(inventory), name)
    if GROUPS[unit] not in host.groups:
        there = ", ".join(kind for kind, group in GROUPS.items() if group in host.groups) or "none of them"
        raise UserError(f"{name} runs no {unit}: it has {there}")
    if unit == "proxy" and not FLAMEGRAPH.exists():
        raise UserError("what draws perf's samples is missing here: apt-get install libdevel-nytprof-perl")
    chosen = choose(look(host, unit), unit, name, worker)
    say(f"{name}: {unit} {chosen.name}, process {chosen.pid}, {chosen.busy:.0%} of a core")
    with step(f"{seconds} s at {HERTZ} samples/s"):
        sample = _perf if unit == "proxy" else _py_spy
        svg, cost = sample(host, chosen, seconds, native)
    out.write_bytes(svg)
    say(f"the profiler took {cost / seconds:.1%} of a core there, its start and end included")
    print(out)


def look(host: Host, unit: str) -> list[Worker]:
    """The processes of a unit's kind that run on a host."""
    processes = _CHILDREN if unit in ("front", "proxy") else "$main"
    done = hosts.run(host, _LOOK.format(unit=shlex.quote(UNITS[unit]), processes=processes), SSH_SECONDS)
    if done.returncode:
        raise Failure(f"{host.name}: {_last_line(done.stderr) or 'could not be looked at'}")
    return parse_look(done.stdout.decode(), 0.5)


def parse_look(text: str, seconds: float) -> list[Worker]:
    """From `_LOOK`; a process that ended between the two looks is left out."""
    first: dict[int, int] = {}
    found: dict[int, Worker] = {}
    of_unit: dict[str, int] = {}
    for unit, pid, used in (line.split() for line in text.splitlines()):
        ns = int(used)
        if int(pid) not in first:
            first[int(pid)] = ns
            continue
        at = of_unit[unit] = of_unit.get(unit, -1) + 1
        instance = unit.removesuffix(".service").partition("@")[2]
        found[int(pid)] = Worker(instance or str(at), int(pid), max(0, ns - first[int(pid)]) / 1e9 / seconds)
    return list(found.values())


def choose(workers: list[Worker], unit: str, host: str, wanted: str | None) -> Worker:
    """The one that is named, or the busiest."""
    if not workers:
        raise UserError(f"no {unit} runs on {host}: systemctl status '{UNITS[unit]}' there says why")
    if wanted is None:
        return max(workers, key=lambda each: each.busy)
    for each in workers:
        if each.name == wanted:
            return each
    raise UserError(f"{unit} has no worker {wanted} on {host}: it has {', '.join(each.name for each in workers)}")


def _py_spy(host: Host, worker: Worker, seconds: int, native: bool) -> tuple[bytes, float]:
    program = Path(sys.executable).parent / "py-spy"
    if not program.is_file():
        raise UserError(f"{program} is missing: ./griddle makes its environment anew")
    script = _PY_SPY.format(pid=worker.pid, seconds=seconds, hertz=HERTZ, native="--native" if native else "")
    done = hosts.run(host, f"bash -c {shlex.quote(script)}", seconds + SSH_SECONDS, stdin=program.read_bytes())
    if done.returncode:
        raise Failure(f"{host.name}: py-spy: {_last_line(done.stderr)}")
    return done.stdout, cpu_seconds(done.stderr.decode(errors="replace"))


def _perf(host: Host, worker: Worker, seconds: int, _native: bool) -> tuple[bytes, float]:
    script = _PERF.format(pid=worker.pid, seconds=seconds, hertz=HERTZ, no_perf=NO_PERF)
    done = hosts.run(host, f"bash -c {shlex.quote(script)}", seconds + SSH_SECONDS)
    if done.returncode == NO_PERF:
        raise UserError(f"{host.name} has no perf: apt-get install linux-perf there")
    if done.returncode:
        hint = (
            " (a container may be kept from it: systemd-nspawn's --system-call-filter=perf_event_open)"
            if b"ermi" in done.stderr
            else ""
        )
        raise Failure(f"{host.name}: perf: {_last_line(done.stderr)}{hint}")
    if not done.stdout.strip():
        raise Failure(f"{host.name}: perf saw {worker.name} do nothing in {seconds} s: profile it under load")
    drawn = subprocess.run(
        [shutil.which("perl") or "perl", str(FLAMEGRAPH), f"--title=nginx on {host.name}"],
        input=done.stdout, capture_output=True,
    )  # fmt: skip
    if drawn.returncode:
        raise Failure(f"{FLAMEGRAPH.name}: {_last_line(drawn.stderr)}")
    return drawn.stdout, cpu_seconds(done.stderr.decode(errors="replace"))


def cpu_seconds(text: str) -> float:
    """user and sys of `time -p`."""
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(("user ", "sys ")))


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith(("real ", "user ", "sys "))), "")
