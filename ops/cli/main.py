"""The command line: `./griddle`. Each command's work is in a module of its own, imported when it is run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cluster.errors import Failure, UserError
from ops.cli.etcd import etcd
from ops.cli.options import CHECKOUT, Griddle, lock_wait_option
from ops.cli.options import dry_option as _dry_option
from ops.cli.options import inventory_option as _inventory_option
from ops.cli.options import json_option as _json_option

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
INTERRUPTED = 130


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


@click.group(cls=Griddle, context_settings=CONTEXT)
def griddle() -> None:
    """A whole low-latency cluster from one repo: on your own hosts, or here as a lab of containers.

    Your own hosts are deployed by pyinfra itself (README.md); the commands with --inventory work on them, too.

    \b
    Exit codes: 0 done, 1 something failed while running, 2 something to correct in what was given,
    130 interrupted. After an interruption the same command goes on where it stopped.
    """


@griddle.command()
@click.option(
    "--store",
    type=click.Choice(["auto", "fdb", "etcd"]),
    default="auto",
    show_default=True,
    help="The store. auto: FoundationDB where its packages can be had, else the etcd that is there anyway.",
)
@click.option("--bare", is_flag=True, help="Boot the hosts and stop there: nothing is deployed.")
def up(store: str, bare: bool) -> None:
    """Boot the lab, deploy the cluster onto it, load data, and read some by either lane.

    Eleven Debian hosts as systemd containers (six without FoundationDB), deployed over SSH by
    `pyinfra inventory/lab.py deploys/all.py`. On a running lab this deploys what changed, or says
    that nothing did. Needs root for the containers: asks sudo once if you are not root.
    """
    from ops import up as body

    body.up(CHECKOUT, store=store, bare=bare)


@griddle.command()
def down() -> None:
    """Remove the lab: containers, mounts, network, its hosts' disks and secrets. Also after a crash.

    What stays is what costs time to make again: the base image and the release.
    """
    from ops import lab

    lab.down(CHECKOUT)


@griddle.command(name="status")
@_inventory_option
@click.option(
    "--wait",
    type=click.FloatRange(0.5, 60),
    default=2.4,
    show_default=True,
    metavar="SECONDS",
    help="How long the metrics host may take: more for one that is far away or overloaded.",
)
@_json_option()
def cluster_status(inventory: str, as_json: bool, wait: float) -> None:
    """The cluster on one screen: the promise, hosts, versions, releases, gates, what was done last.

    Unless told to wait longer it answers in under three seconds, also with hosts down. Everything but which hosts
    answer comes from the metrics host; without it the exit code is 1, and the hosts are shown all the same.
    """
    from ops import status as body

    body.status(CHECKOUT / inventory, as_json, wait)


@griddle.command()
@click.option("--inventory", metavar="FILE", help="Add this cluster's own values: inventory/prod.py, or another.")
@_json_option()
def data(inventory: str | None, as_json: bool) -> None:
    """Every key of the data: what it takes, its default, its meaning; with --inventory also a cluster's values.

    docs/data.md is the same. What does not fit is refused before any host is touched.
    """
    from ops import data as body

    body.show(CHECKOUT / inventory if inventory else None, as_json=as_json)


@griddle.command()
@click.option(
    "--port",
    type=click.IntRange(1024, 65533),
    default=8080,
    show_default=True,
    help="nginx's port; the front and the store worker take the two after it.",
)
def dev(port: int) -> None:
    """Run the services on loopback, restarted when their code changes.

    nginx, a front, a feed and a store worker, one process each; the store is in memory. No root, no containers;
    Ctrl-C ends it.
    """
    from ops import dev as body

    body.dev(port)


@griddle.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]")
def test(arguments: tuple[str, ...]) -> None:
    """Run the tests: unit, plan (pyinfra on fake hosts) and lab (real containers).

    Lab tests are skipped, by name and with the reason, where containers cannot run. Without paths
    among the arguments everything runs; `./griddle test tests/unit -k plan` runs a part. --long adds the proofs
    that take minutes each; --no-skip fails where a test was skipped.
    """
    from ops import testing

    sys.exit(testing.run(CHECKOUT, arguments))


@griddle.group(cls=Griddle)
def bench() -> None:
    """Measure a cluster's reads through its virtual address, or what a read costs on loopback."""


@bench.command()
@click.option("--engine", type=click.Choice(["memory", "etcd", "fdb"]), help="Only this store, not all three.")
@_json_option("; it is saved in any case")
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
@_json_option(", in nanoseconds")
def counting(as_json: bool) -> None:
    """What it costs a request to be counted, in nginx and in the services. Takes seconds; needs nginx."""
    from ops.bench import counting as body

    body.bench_counting(as_json)


@bench.command()
@_inventory_option
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
@_json_option("; it is saved in any case")
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
@_json_option()
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
@_json_option("; it is saved in any case")
def curve(engine: str, lane: str, seconds: float, as_json: bool) -> None:
    """How long reads take by how busy the path is, on loopback.

    The path of `bench path`, at 30 to 95 % of what it can do; about two minutes. `griddle capacity` computes from
    the newest result.
    """
    from ops.bench import curve as body

    body.bench_curve(engine, lane, seconds, as_json=as_json)


@griddle.command()
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
@_json_option()
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


@griddle.command()
@click.argument("host")
@click.option(
    "--unit",
    type=click.Choice(["front", "store", "feed", "proxy"]),
    required=True,
    help="A front, store worker or feed of an app host; proxy: nginx.",
)
@click.option(
    "--seconds", type=click.IntRange(1, 300), default=10, show_default=True, help="How long it is looked at."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="profile.svg",
    show_default=True,
    help="The graph's file.",
)
@click.option("--worker", help="Which one, such as a-0.  [default: the busiest]")
@click.option("--native", is_flag=True, help="Functions of C libraries too; stops the process for longer.")
@_inventory_option
def profile(
    host: str, unit: str, seconds: int, out: Path, worker: str | None, native: bool, inventory: str
) -> None:
    """Write a flame graph of what a process on HOST does, while it does it.

    py-spy samples the Python units, perf nginx. Nothing is restarted; what the profiler itself took is said.
    """
    from ops import profile as body

    body.profile(CHECKOUT / inventory, host, unit, seconds, out, worker, native=native)


@griddle.group(cls=Griddle)
def lab() -> None:
    """The lab's hosts: look at them, enter them, take them away and bring them back."""


@lab.command()
@_json_option()
def status(as_json: bool) -> None:
    """What each host is and does, found by looking: running, booting, cut, stopped or absent."""
    from ops import lab as body

    body.print_status(CHECKOUT, as_json=as_json)


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(host: str, command: tuple[str, ...]) -> None:
    """Open a shell on HOST, or run COMMAND there, as the deploy user (sudo asks for nothing)."""
    from ops import lab as body

    sys.exit(body.ssh(CHECKOUT, host, command))


def _host_command(verb: str, text: str) -> None:
    """The four commands that do one thing to hosts, and nothing else."""

    @lab.command(name=verb, help=text)
    @click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
    def command(hosts: tuple[str, ...]) -> None:
        from ops import lab as body

        body.act(CHECKOUT, verb, hosts)


_host_command("stop", "Cut HOST's power: every process dies at once, nothing is told. Its disk stays.")
_host_command("start", "Power HOST on again, and wait until it answers.")
_host_command("cut", "Take HOST off the network: it runs on, and no packet reaches it or leaves it.")
_host_command("heal", "Put HOST back on the network.")


@lab.command()
@click.argument("host")
@click.argument("group", type=click.Choice(["fdb", "spare", "etcd", "no-etcd"]))
def move(host: str, group: str) -> None:
    """Put HOST into GROUP of the lab's inventory, as one would edit inventory/prod.py; no-etcd: out of group etcd.

    fdb6 to fdb9 and etcd1 to etcd5 are booted first. Nothing is deployed: `./griddle fdb add`, `replace` and
    `remove`, and those of `./griddle etcd`, make the stores follow.
    """
    from ops import lab as body

    body.move(CHECKOUT, host, group)


@griddle.group(cls=Griddle)
def fdb() -> None:
    """FoundationDB on the running cluster. What changes it is a deploy (deploys/fdb_*.py).

    One operation at a time: etcd holds a lock with its owner's name. Interrupted or killed, the same command
    goes on where it stopped. --dry prints the plan and changes nothing. What an operation did, with each
    gate's values, is saved under results/operations/.
    """


@fdb.command(name="status")
@_json_option()
@_inventory_option
def fdb_status(as_json: bool, inventory: str) -> None:
    """The database on one screen, with every health gate; also while it is down.

    Exit code 0 if it is available and every gate is green, else 1. A database that does not answer is waited
    for, for half a minute.
    """
    from ops.fdb import status as body

    sys.exit(body.show(CHECKOUT, inventory, as_json=as_json))


@fdb.command()
@click.argument("version")
@click.option(
    "--rolling", is_flag=True, help="Zone by zone, that is host by host; the next when the cluster bears that."
)
@click.option(
    "--procedure",
    type=click.Choice(["auto", "patch", "minor"]),
    default="auto",
    show_default=True,
    help="auto: by the versions. minor is the longer one, for processes that do not talk to the older ones.",
)
@click.option(
    "--recovered-seconds",
    type=int,
    help="Refuse where the last recovery is less long ago.  [default: 600; in the lab 0]",
)
@click.option(
    "--cut-off", is_flag=True, help="Go on where clients outside the inventory would lose the database (minor)."
)
@_dry_option
@lock_wait_option
@_inventory_option
def upgrade(
    version: str,
    rolling: bool,
    procedure: str,
    recovered_seconds: int | None,
    cut_off: bool,
    dry: bool,
    inventory: str,
) -> None:
    """Bring the running cluster to VERSION, such as 7.3.78, under load.

    All of it is staged and tried out on every host before anything is switched. Then all processes restart
    at once, which costs one short recovery, while requests wait for it, for up to 3 s, instead of failing.
    """
    from ops.fdb import run

    data = {"fdb_version": version, "fdb_rolling": rolling, "fdb_procedure": procedure, "fdb_cut_off": cut_off}
    if recovered_seconds is not None:
        data["fdb_recovered_seconds"] = recovered_seconds
    run.run(CHECKOUT, inventory, "fdb_upgrade", data, dry=dry)


@fdb.command()
@click.argument("host")
@_dry_option
@lock_wait_option
@_inventory_option
def add(host: str, dry: bool, inventory: str) -> None:
    """HOST, bare until now, becomes a part of the database.

    The inventory has it in group fdb already.
    """
    from ops.fdb import members

    members.run(CHECKOUT, inventory, join=host, dry=dry)


@fdb.command()
@click.argument("host")
@_dry_option
@lock_wait_option
@_inventory_option
def remove(host: str, dry: bool, inventory: str) -> None:
    """HOST hands over what it holds, and is stopped.

    The inventory has it in group spare already. Also for a host that is lost: then its exclusion stays, so that it
    takes no part if it comes back.
    """
    from ops.fdb import members

    members.run(CHECKOUT, inventory, leave=host, dry=dry)


@fdb.command()
@click.argument("old")
@click.argument("new")
@_dry_option
@lock_wait_option
@_inventory_option
def replace(old: str, new: str, dry: bool, inventory: str) -> None:
    """NEW joins, then OLD leaves: under load, with nothing lost.

    The inventory has NEW in group fdb and OLD in group spare already. There are never fewer copies than
    fdb_redundancy asks for.
    """
    from ops.fdb import members

    members.run(CHECKOUT, inventory, join=new, leave=old, dry=dry)


@fdb.command()
@click.argument("hosts", nargs=-1, required=True, metavar="auto|HOST...")
@_dry_option
@lock_wait_option
@_inventory_option
def coordinators(hosts: tuple[str, ...], dry: bool, inventory: str) -> None:
    """Make these HOSTS the coordinators; auto: replace those that do not answer, keep the others."""
    from ops.fdb import members

    members.run(CHECKOUT, inventory, choose=hosts, dry=dry)


@fdb.group(cls=Griddle)
def backup() -> None:
    """The continuous backup, by agents on the metrics host, to fdb_backup_url."""


@backup.command()
@_dry_option
@lock_wait_option
@_inventory_option
def now(dry: bool, inventory: str) -> None:
    """Wait until all that has been acknowledged can be restored, and say the version and its time."""
    from ops.fdb import backup as body

    body.run(CHECKOUT, inventory, "now", dry=dry)


@backup.command(name="status")
@_json_option()
@_inventory_option
def backup_status(as_json: bool, inventory: str) -> None:
    """Whether it runs, where it is, to which version and time it can be restored, and how large it is."""
    from ops.fdb import backup as body

    body.status(CHECKOUT, inventory, as_json=as_json)


@backup.command()
@_dry_option
@lock_wait_option
@_inventory_option
def verify(dry: bool, inventory: str) -> None:
    """Restore the backup into a database of its own on the metrics host, and compare: byte for byte.

    The live database is read at one version, in one transaction, so it must be readable within 5 s.
    """
    from ops.fdb import backup as body

    body.run(CHECKOUT, inventory, "verify", dry=dry)


@fdb.command()
@click.option("--to-version", type=click.IntRange(1), metavar="VERSION", help="As `backup now` says it.")
@click.option(
    "--to-time", metavar="TIME", help="2026-05-17T14:03:00+02:00, or with Z for UTC; exact to about a minute."
)
@click.option("--replace", is_flag=True, help="Destroy what is in the database.")
@_dry_option
@lock_wait_option
@_inventory_option
def restore(to_version: int | None, to_time: str | None, replace: bool, dry: bool, inventory: str) -> None:
    """Bring back the database as it was at a version or a time.

    Refuses a database that holds anything, unless --replace. Meanwhile it is locked, and requests get 503;
    services go on by themselves. The running backup ends, and stays where it is; the next begins afterwards.
    """
    from ops.fdb import backup as body

    body.restore(CHECKOUT, inventory, to_version, to_time, replace=replace, dry=dry)


griddle.add_command(etcd)


@griddle.group(cls=Griddle)
def release() -> None:
    """Releases: what runs on the app hosts, and the proxies' agent."""


@release.command()
def build() -> None:
    """Build this checkout's services into .griddle/releases/<version>, in a clean Debian container.

    The version is the hash of what went in: the same content is built once.
    """
    from ops.release import build as body

    body.build()


@griddle.group(cls=Griddle)
def pki() -> None:
    """The cluster's own certificate authority, under .griddle/clusters (never in git)."""


@pki.command()
@click.argument("cluster", default="lab")
def show(cluster: str) -> None:
    """Certificates of CLUSTER (default: lab): whose they are and when they end."""
    from ops import pki as body

    body.show(cluster)


@pki.command()
@click.argument("cluster", default="lab")
@lock_wait_option
def rotate(cluster: str) -> None:
    """Replace the CA and all certificates of the running CLUSTER (default: lab).

    Three applies of inventory/CLUSTER.py: trust the new CA everywhere, issue by it, forget the old one.
    Interrupted, the same command goes on with the step that was not finished.
    """
    from ops import pki as body

    body.rotate(cluster)


_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Else the environment's GRIDDLE_PASSPHRASE, else it is asked for.",
)


@pki.command()
@click.argument("cluster")
@click.argument("file")
@_passphrase_option
def export(cluster: str, file: str, passphrase_file: Path | None) -> None:
    """Copy CLUSTER's CA into FILE, sealed with a passphrase, for another operator's machine.

    FILE may lie in git. `-` writes it plain to a pipe: into age, sops, `vault kv put`.
    """
    from ops import pki as body

    body.export(cluster, file, passphrase_file)


@pki.command(name="import")
@click.argument("file")
@_passphrase_option
def import_(file: str, passphrase_file: Path | None) -> None:
    """Take a CA from FILE, as `export` has written it; `-` reads it from a pipe.

    Whole or not at all, and only where this machine has none of that cluster, or an older one.
    """
    from ops import pki as body

    body.import_(file, passphrase_file)


def main() -> int:
    try:
        griddle.main(prog_name="griddle", standalone_mode=False)
    except (UserError, Failure) as error:
        click.echo(f"griddle: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("griddle: interrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
