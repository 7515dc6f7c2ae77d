"""`./griddle bench` and `./griddle capacity`."""

from __future__ import annotations

import json

import click

from cluster.errors import UserError
from ops.cli.options import CHECKOUT, Griddle, inventory_option, json_option

_engine_option = click.option(
    "--engine",
    type=click.Choice(["fdb", "etcd", "memory"]),
    default="fdb",
    show_default=True,
    help="Of the store.",
)
_lane_option = click.option(
    "--lane",
    type=click.Choice(["direct", "wsgi"]),
    default="direct",
    show_default=True,
    help="direct: nginx asks the store; wsgi: by way of the Python front.",
)

_promise_option = click.option(
    "--p99-ms",
    type=click.FloatRange(0.1),
    default=25,
    show_default=True,
    help="The promise: 99 % of reads take no longer.",
)


@click.group(cls=Griddle)
def bench() -> None:
    """Measure a cluster's reads through its virtual address, or what a read costs on loopback."""


@bench.command()
@click.option("--engine", type=click.Choice(["memory", "etcd", "fdb"]), help="Only this store, not all three.")
@json_option("; it is saved in any case")
@click.option(
    "--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="How often each path is measured."
)
@click.option("--quick", is_flag=True, help="Our own lanes in memory for a few seconds: whether it works at all.")
def path(engine: str | None, as_json: bool, rounds: int, quick: bool) -> None:
    """What an uncached read costs: by both lanes, and by the servers that one would pick instead.

    For each path requests/s of one core, CPU time per request by process, and p50 and p99 at 80 % of
    that from a load that does not wait for answers. Three rounds take about four minutes per engine; the
    result is saved under results/.
    """
    from ops.bench import path as body

    body.bench_path(engine, as_json=as_json, rounds=rounds, quick=quick)


@bench.command()
@json_option(", in nanoseconds")
def counting(as_json: bool) -> None:
    """What it costs a request to be counted, in nginx and in the services. Takes seconds; needs nginx."""
    from ops.bench import counting as body

    body.bench_counting(as_json)


@bench.command()
@inventory_option
@click.option("--url", help="A target of your own on loopback instead: http://127.0.0.1:PORT.")
@click.option(
    "--rate", type=click.FloatRange(1, 1e6), default=500, show_default=True, help="Reads per second, in all."
)
@click.option("--ramp", is_flag=True, help="From --rate upwards until the promise breaks.")
@click.option("--saturate", is_flag=True, help="A closed loop instead (wrk): how much it can do at all.")
@click.option(
    "--duration", type=click.FloatRange(1, 3600), help="Seconds at each rate.  [default: 30; 10 with --ramp]"
)
@click.option(
    "--lane",
    type=click.Choice(["direct", "wsgi", "both"]),
    default="direct",
    show_default=True,
    help="direct: nginx asks the store; wsgi: by way of the Python front. Choosing needs proxy_lane_override.",
)
@click.option(
    "--p99-ms",
    type=click.FloatRange(0.1),
    help="The promise: 99 % of reads take no longer.  [default: the cluster's metrics_promise_ms]",
)
@click.option("--connections", type=click.IntRange(1, 1024), default=256, show_default=True, help="Of each lane.")
@click.option(
    "--profiles",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="How many the store holds, p0 and on; random ones are read.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME",
    help="What compare finds the result by. Several labels are measured in turns, see --switch.",
)
@click.option("--repeat", type=click.IntRange(1, 100), default=1, show_default=True, help="Runs of each label.")
@click.option(
    "--switch", metavar="COMMAND", help="Run before each run with its label: makes the cluster what that is."
)
@json_option("; it is saved in any case")
def read(
    inventory: str, url: str | None, rate: float, ramp: bool, saturate: bool, duration: float | None, lane: str,
    p99_ms: float | None, connections: int, profiles: int, labels: tuple[str, ...], repeat: int,
    switch: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Load a cluster with uncached reads, and say how long they take.

    Requests fall due at a constant rate whether or not earlier ones were answered, and a latency runs from then: a
    stall shows with everybody who would have met it. Where the load itself came too late to say anything, the run
    is refused with exit code 1. The result is saved under results/ with a page of charts, together with versions
    and sizes of what ran and its CPU time per request; `griddle bench compare` sets several of them side by side:

    \b
        ./griddle bench read --repeat 6 --label old --label new --switch ./switch.sh
        ./griddle bench compare old new
    """
    from ops.bench import read as body
    from ops.bench import results

    body.check_labels(labels, repeat, switch, one_rate=not (ramp or saturate))
    seconds = duration or (10 if ramp else 30)
    target = body.target_of(CHECKOUT / inventory, url)
    promise_ms = p99_ms or (target.cluster.data["metrics_promise_ms"] if target.cluster else 25)
    plan = body.Plan(rate, seconds, body.LANES[lane], promise_ms, connections=connections, profiles=profiles)
    if labels:
        runs = body.bench_series(target, plan, labels, repeat, switch, as_json)
        document: dict = {"runs": runs} if len(runs) > 1 else runs[0]
    else:
        document = body.bench_read(target, plan, ramp=ramp, saturate=saturate, as_json=as_json)
    if as_json:
        print(json.dumps(results.without_histograms(document), indent=2))


class _TwoLists(click.Command):
    """Leaves the -- between two lists to the command; click takes the first one for the end of the options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            args.insert(args.index("--"), "--")
        return super().parse_args(ctx, args)


@bench.command(cls=_TwoLists, options_metavar="[OPTIONS]")
@click.argument("names", nargs=-1, required=True, metavar="A... [--] B...")
@click.option(
    "--of",
    type=click.Choice(["p50", "p90", "p99", "p99.9"]),
    default="p99",
    show_default=True,
    help="Which percentile is judged.",
)
@json_option()
def compare(names: tuple[str, ...], of: str, as_json: bool) -> None:
    """Results of `bench read` side by side: labels, files, or their names under results/.

    A and B are a label or a result each, or several with -- between them. Runs are paired with their neighbours
    in time; from six pairs on their ratio has an interval, and one percentile a verdict. Fewer get none, for two
    runs of the same thing differ as well. Also shown: what differs in what ran.
    """
    from ops.bench import compare as body

    body.bench_compare(names, of=of, as_json=as_json)


@bench.command()
@_engine_option
@_lane_option
@click.option("--seconds", type=click.FloatRange(1, 120), default=8, show_default=True, help="At each rate.")
@json_option("; it is saved in any case")
def curve(engine: str, lane: str, seconds: float, as_json: bool) -> None:
    """How long reads take by how busy the path is, on loopback.

    The path of `bench path`, at 30 to 95 % of what it can do; about two minutes. `griddle capacity` computes from
    the newest result.
    """
    from ops.bench import curve as body

    body.bench_curve(engine, lane, seconds, as_json=as_json)


@click.command()
@click.option("--rate", type=click.FloatRange(1), default=50_000, show_default=True, help="Reads per second.")
@_promise_option
@_engine_option
@_lane_option
@click.option("--proxies", type=click.IntRange(1), default=2, show_default=True, help="Proxies that there are.")
@click.option("--apps", type=click.IntRange(1), default=3, show_default=True, help="App hosts.")
@click.option("--fdb", "nodes", type=click.IntRange(1), default=5, show_default=True, help="FoundationDB hosts.")
@click.option("--max-cores", type=click.IntRange(1), default=16, show_default=True, help="Of the largest host.")
@click.option(
    "--from", "measured", metavar="RESULT", help="Compute from this result under results/, not from the newest."
)
@click.option("--check", is_flag=True, help="How well RESULTS of bench read --saturate on the lab are predicted.")
@json_option()
@click.argument("named", nargs=-1, metavar="[RESULTS]...")
def capacity(
    rate: float, p99_ms: float, engine: str, lane: str, proxies: int, apps: int, nodes: int, max_cores: int,
    measured: str | None, check: bool, as_json: bool, named: tuple[str, ...],
) -> None:  # fmt: skip
    """How many cores a promise needs on each tier, with one host of it lost, and what gives first.

    Computed from measured CPU time per request and measured latency by utilisation: the newest `bench curve`
    and `bench path` under results/, or those that come with the repo. docs/performance.md holds the model, and
    how well it predicts.
    """
    if check or named:
        from ops.bench import capacity_check

        if not (check and named):
            raise UserError("capacity: --check and RESULTS (of bench read --saturate) need each other")
        capacity_check.show(named, as_json=as_json)
        return
    from ops.bench import capacity_report as body

    asked = body.Asked(rate, p99_ms, engine, lane, proxies, apps, nodes, max_cores)
    body.capacity(asked, measured, as_json=as_json)
