"""`griddle bench path`: what a read costs, by each path to it, on this machine.

One core runs the whole path, another one the load and, where the engine has one, the database: so requests/s are
those of one core, and CPU times per request can be compared however busy the machine is. The paths take turns in
several rounds, each time started anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UserError
from cluster.paths import ROOT
from cluster.progress import say, step
from ops import dev, stores
from ops.bench import generator, html, load, report, results, where
from ops.bench.processes import busy_ns, children_ns, cpu_ns, used_us
from ops.bench.stacks import OURS, THEIRS, Running, Setting, Stack, configured, fill

ENGINES = ("memory", "etcd", "fdb")
SATURATED_SHARE = 0.8


@dataclass(frozen=True)
class Plan:
    """How much is measured; seconds for each path in each round."""

    stacks: tuple[Stack, ...] = (OURS, *THEIRS)
    rounds: int = 3
    warm_up_seconds: float = 1
    saturation_seconds: float = 4
    open_warm_up_seconds: float = 1
    open_seconds: float = 5
    connections: int = 64
    profiles: int = 10_000


QUICK = Plan(
    stacks=(OURS,), rounds=1, warm_up_seconds=1, saturation_seconds=1, open_warm_up_seconds=0.2, open_seconds=1,
    profiles=500,
)  # fmt: skip


def bench_path(engine: str | None, *, as_json: bool, rounds: int, quick: bool) -> None:
    """Measure, print and save. Without `engine` all are measured, and those that are not here are named."""
    plan = QUICK if quick else Plan(rounds=rounds)
    cores = sorted(os.sched_getaffinity(0))
    check_machine(cores, plan)
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, _interrupt)
    chosen = (engine,) if engine else ("memory",) if quick else ENGINES
    rows, seen_rounds = [], {}
    for name in chosen:
        missing = {"etcd": stores.etcd_missing, "fdb": stores.fdb_missing}.get(name, lambda: None)()
        if missing:
            if engine:
                raise UserError(f"bench: engine {name}: {missing}")
            say(f"bench: engine {name} is skipped: {missing}")
            continue
        seen = measure_engine(name, plan, cores)
        found = [report.row(name, each) for each in seen.values()]
        rows += found
        seen_rounds[name] = {path: report.rounds_of(each) for path, each in seen.items()}
        for line in (f"\nengine {name}, CPU in µs per request", report.table(found), *report.ratios(found),
                     *report.notes(found)):  # fmt: skip
            say(line) if as_json else print(line, flush=True)
    document = {"kind": "path", "rows": rows, "machine": machine(cores), "plan": described(plan)}
    document["rounds"] = seen_rounds
    saved = results.save("path", document)
    say(f"\nreport: {html.write(saved, document)}\nsaved: {saved}")
    if as_json:
        print(json.dumps({key: document[key] for key in ("rows", "machine", "plan")}, indent=2))


def measure_engine(engine: str, plan: Plan, cores: Sequence[int]) -> dict[str, list[report.Round]]:
    """{path: its rounds}, in the order of the plan."""
    path_core, load_core = cores[0], cores[1]
    database_core = cores[2] if len(cores) > 2 else load_core
    measured = list(dict.fromkeys((path_core, load_core, database_core)))
    stacks = [stack for stack in plan.stacks if engine in stack.engines]
    seen: dict[str, list[report.Round]] = {path: [] for stack in stacks for path in stack.rows}
    order = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="griddle-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # a worker of nginx is nobody in particular
        program = generator.build(directory)
        with database(engine, directory, database_core) as (server, tables):
            setting = Setting(directory / "path", engine, tables, plan.profiles, path_core)
            if server is not None:
                fill_database(setting)
            for number in range(1, plan.rounds + 1):
                for stack in order.sample(stacks, len(stacks)):
                    title = f"bench: {engine}, round {number} of {plan.rounds}: {', '.join(stack.rows)}"
                    with step(title), stack.started(setting) as running:
                        for path, lane in stack.rows.items():
                            seen[path].append(_measure(path, lane, running, server, program, plan, measured))
    return seen


@contextlib.contextmanager
def database(engine: str, directory: Path, core: int) -> Iterator[tuple[stores.Server | None, dict]]:
    """The engine's own server on loopback, and its tables of griddle.toml."""
    if engine == "memory":
        yield None, {}
        return
    server = stores.etcd(directory) if engine == "etcd" else stores.Fdb(directory)
    try:
        with step(f"bench: starting {engine}"):
            server.start([core])
            if isinstance(server, stores.Fdb):
                server.configure()
        if isinstance(server, stores.Fdb):
            files = {"cluster_file": str(server.cluster_file), "client_library": str(server.library)}
            yield server, {"fdb": files}
        else:
            yield server, {"etcd": {"endpoints": [f"http://127.0.0.1:{server.port}"]}}
    finally:
        server.stop()


def check_machine(cores: Sequence[int], plan: Plan) -> None:
    """Raises UserError for what is missing."""
    dev.check_nginx()
    if len(cores) < 2:
        raise UserError("bench: one core is too few: the path needs one, and the load another")
    needed = {"wrk": "wrk", "cc": "gcc"} | ({"go": "golang-go"} if plan.stacks != (OURS,) else {})
    missing = [package for command, package in needed.items() if not shutil.which(command)]
    if missing:
        raise UserError(f"bench: missing here: apt-get install {' '.join(missing)}")


def machine(cores: Sequence[int]) -> dict:
    """What the figures were measured on, and of what."""
    model = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return {
        **where.checkout(),
        "cores": len(cores),
        "cpu": model[0] if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": _output(*dev.nginx_command(Path("/"))[:1], "-v"),
        "wrk": _output("wrk", "-v").partition("Copyright")[0].strip(),
        "go": _output("go", "version"),
        "etcd": _output("etcd", "--version").partition("\n")[0],
        "foundationdb": _fdb_version(),
    }


def described(plan: Plan) -> dict:
    """The plan's numbers, for the file."""
    return {name: value for name, value in vars(plan).items() if name != "stacks"}


def _measure(
    path: str, lane: str, running: Running, server: stores.Server | None, program: Path, plan: Plan,
    cores: Sequence[int],
) -> report.Round:  # fmt: skip
    """One round of one path. `cores`: the path's, the load's, the database's."""

    def used() -> dict[str, int]:
        return running.cpu_ns() | {"database": cpu_ns(server.process.pid) if server else 0}

    def others_ns() -> int:
        """Grows with what other work on this machine takes of the cores that are measured."""
        return busy_ns(cores) - sum(used().values()) - children_ns() - time.process_time_ns()

    load_cores = [cores[1]]
    load.saturate(running.port, lane, plan.warm_up_seconds, plan.profiles, plan.connections, load_cores)
    before, others, started = used(), others_ns(), time.monotonic()
    saturation = load.saturate(
        running.port, lane, plan.saturation_seconds, plan.profiles, plan.connections, load_cores
    )
    seconds, others_saturated = time.monotonic() - started, others_ns() - others
    after = used()
    running.check()
    others, started = others_ns(), time.monotonic()
    rate = max(1.0, SATURATED_SHARE * saturation.requests_per_second)
    latency = load.open_loop(
        program, running.port, lane, rate, plan.open_warm_up_seconds, plan.open_seconds, plan.profiles,
        plan.connections, load_cores,
    )  # fmt: skip
    others_open = (others_ns() - others) / 1e9 / (time.monotonic() - started)
    each = used_us(before, after, saturation.requests)
    database_us = each.pop("database")
    return report.Round(
        path=path,
        saturation=saturation,
        cpu_us=each,
        database_us=database_us,
        core_share=sum(after[role] - before[role] for role in each) / 1e9 / seconds,
        others_saturated=max(0.0, others_saturated / 1e9 / seconds),
        others_open=max(0.0, others_open),
        latency=latency,
        store_mb=running.resident_mb("store"),
    )


def fill_database(setting: Setting) -> None:
    with step(f"bench: writing {setting.profiles:,} profiles"):
        setting.directory.mkdir()
        configured(setting)
        fill(setting)


def _fdb_version() -> str:
    with contextlib.suppress(Exception):
        return stores.artifacts.default_version()
    return ""


def _output(*command: str) -> str:
    """What a program says of itself; empty where it is not here."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
