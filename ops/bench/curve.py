"""`griddle bench curve`: how long reads take, by how busy the core is that runs the whole path."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from cluster.errors import UserError
from cluster.progress import say, step
from ops import stores
from ops.bench import generator, html, load, path, results
from ops.bench.processes import busy_ns, children_ns, cpu_ns, family, prefer, used_us
from ops.bench.stacks import OURS, Running, Setting

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


def bench_curve(engine: str, lane: str, seconds: float, *, as_json: bool) -> None:
    """Measure, print, save."""
    plan = path.Plan(stacks=(OURS,), open_seconds=seconds)
    cores = sorted(os.sched_getaffinity(0))
    path.check_machine(cores, plan)
    missing = {"etcd": stores.etcd_missing, "fdb": stores.fdb_missing}.get(engine, lambda: None)()
    if missing:
        raise UserError(f"bench: engine {engine}: {missing}")
    with tempfile.TemporaryDirectory(prefix="griddle-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # a worker of nginx is nobody in particular
        program = generator.build(directory)
        with path.database(engine, directory, cores[2] if len(cores) > 2 else cores[1]) as (server, tables):
            setting = Setting(directory / "path", engine, tables, plan.profiles, cores[0])
            if server is not None:
                path.fill_database(setting)
            with step(f"bench: {lane} lane on {engine}"), OURS.started(setting) as running:
                started = [process.pid for process in running.processes] + ([server.process.pid] if server else [])
                prefer([pid for each in started for pid in family(each)], generator.PRIORITY)
                found = measured(lane, running, server, program, plan, cores[:2])
    document = {"kind": "curve", "engine": engine, "lane": lane, **found, "machine": path.machine(cores)}
    saved = results.save("curve", document)
    lines = [
        f"saturation {found['saturated_per_second']:,.0f} requests/s",
        " share  core used      p50 ms      p99 ms",
    ]
    lines += [
        f"{each['share']:>6.0%}  {each['core_share']:>9.0%}  {_text(each['p50_ms'])}  {_text(each['p99_ms'])}"
        f"  {each['refused']}"
        for each in found["points"]
    ]
    for line in lines:
        say(line) if as_json else print(line)
    say(f"saved: {saved}\nreport: {html.write(saved, document)}")
    if as_json:
        print(json.dumps(document, indent=2))


def measured(
    lane: str, running: Running, server: stores.Server | None, program: Path, plan: path.Plan, cores: list[int]
) -> dict:
    """Saturation by a closed loop, then open loops at shares of it; CPU time of the path in each."""
    load_core = [cores[1]]

    def used() -> dict[str, int]:
        return running.cpu_ns() | {"database": cpu_ns(server.process.pid) if server else 0}

    def others_ns() -> int:
        return busy_ns(cores) - sum(used().values()) - children_ns()

    load.saturate(running.port, lane, plan.warm_up_seconds, plan.profiles, plan.connections, load_core)
    before = used()
    top = load.saturate(running.port, lane, plan.saturation_seconds, plan.profiles, plan.connections, load_core)
    saturated = _costs(before, used(), top.requests)
    points = []
    for share in SHARES:
        rate = share * top.requests_per_second
        before, others = used(), others_ns()
        seen = load.open_loop(
            program, running.port, lane, rate, plan.open_warm_up_seconds, plan.open_seconds, plan.profiles,
            plan.connections, load_core,
        )  # fmt: skip
        running.check()
        length = plan.open_warm_up_seconds + plan.open_seconds
        after = used()
        path_ns = sum(after[role] - before[role] for role in after if role != "database")
        points.append(
            {
                "share": share,
                "core_share": round(path_ns / 1e9 / length, 3),
                "others_cores": round(max(0.0, (others_ns() - others) / 1e9 / length), 2),
                **_costs(before, after, rate * length),
                **asdict(seen),
            }
        )
    return {"saturated_per_second": round(top.requests_per_second), "saturated": saturated, "points": points}


def _costs(before: Mapping[str, int], after: Mapping[str, int], requests: float) -> dict:
    """{"cpu_us": by role, per request, "database_us"}."""
    each = {role: round(us, 1) for role, us in used_us(before, after, requests).items()}
    return {"database_us": each.pop("database"), "cpu_us": each}


def _text(ms: float | None) -> str:
    return f"{'?':>10}" if ms is None else f"{ms:>10.2f}"
