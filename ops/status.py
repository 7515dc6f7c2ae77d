"""`griddle status`: the cluster on one screen, in under three seconds whatever is down.

Two things are asked at the same time, both with short limits: every host, whether it answers by SSH; and the
metrics store, by one query over one SSH connection, everything else. `read` and `screen` are pure.
"""

from __future__ import annotations

import datetime
import json
import math
import shlex
import shutil
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from cluster.errors import Failure
from cluster.model import GROUPS, Cluster, Host
from cluster.ssh import CURL
from cluster.table import padded
from ops import hosts

STORE_SECONDS = 2.4  # by default: with the start of Python it is under three in all
SILENT_SECONDS = 15.0  # a host that was not heard for longer has no working daemon, or no way to the store

_READS = (
    "(sum(rate(griddle_read_ms_count[{w}])) + (sum(rate(griddle_read_shed[{w}])) or 0)"
    " + (sum(rate(griddle_read_errors[{w}])) or 0))"
)
# {what: query}; {w} is the window, {ms} what is promised. Names are explained in docs/metrics.md.
_PROMISE = {
    "within": 'sum(rate(griddle_read_ms_bucket{{le="{ms}"}}[{w}])) / ' + _READS,
    "p99_ms": "histogram_quantile(0.99, sum by (le) (rate(griddle_read_ms_bucket[{w}])))",
    "reads_per_second": _READS,
    "shed_per_second": "sum(rate(griddle_read_shed[{w}])) or 0",
    "errors_per_second": "sum(rate(griddle_read_errors[{w}])) or 0",
}
_WINDOWS = {"now": "1m", "hour": "1h"}
_QUERIES = {
    "heard": "time() - max by (host) (tlast_over_time(griddle_collectd_starts[1d]))",
    "cpu": '100 - avg by (host) (last_over_time(cpu_percent{kind="idle"}[30s]))',
    "worker": "count by (unit, slot, release) (last_over_time(griddle_worker[10s]))",
    "etcd": "max by (host, server_version) (last_over_time(etcd_server_version[30s]))",
    "etcd_leader": "max by (host) (last_over_time(etcd_server_has_leader[30s]))",
    "etcd_quota": (
        "max by (host) (last_over_time(etcd_mvcc_db_total_size_in_bytes[30s]))"
        " / max by (host) (last_over_time(etcd_server_quota_backend_bytes[30s]))"
    ),
    "etcd_alarm": "max by (host, alarm) (last_over_time(griddle_etcd_alarm[40s]))",
    "fdb_up": "max(last_over_time(griddle_fdb_up[40s]))",
    "fdb_gate": "min by (gate) (last_over_time(griddle_fdb_gate[40s]))",
    "fdb_version": "count by (version) (last_over_time(griddle_fdb_process[40s]))",
    "mark": 'tlast_over_time(griddle_mark{phase!="start"}[7d])',
    "mark_took": 'last_over_time(griddle_mark{phase!="start"}[7d])',
}
MARKS = 3
QUOTA_NEAR, QUOTA_FULL = (
    0.8,
    0.95,
)  # of etcd's quota; at the second the store stops (services/engines/etcd_space.py)
STATES = {"up": "green", "down": "red", "silent": "yellow", "unreachable": "yellow"}
MARK_LABELS = ("kind", "title", "phase", "outcome", "reason", "by")


def query(promise_ms: float) -> str:
    """All queries as one, whose results tell themselves apart by the label `q`."""
    promise = {
        f"promise/{name}/{what}": text.format(w=window, ms=promise_ms)
        for name, window in _WINDOWS.items()
        for what, text in _PROMISE.items()
    }
    queries = promise | _QUERIES
    return "union(" + ", ".join(f'label_set({text}, "q", "{name}")' for name, text in queries.items()) + ")"


def gather(cluster: Cluster, seconds: float = STORE_SECONDS) -> dict[str, Any]:
    """Everything that the screen shows, as the JSON document has it.

    ``metrics_problem`` says why there is nothing from the store; None where there is.

    :param seconds: how long the metrics host may take
    """
    every = list(cluster.hosts.values())
    with ThreadPoolExecutor(len(every) + 1) as pool:
        asked = pool.submit(_ask_store, cluster, seconds)
        answers = dict(zip(cluster.hosts, pool.map(lambda host: hosts.answers(host, seconds), every), strict=True))
    try:
        found, problem = asked.result(), None
    except Failure as error:
        found, problem = [], str(error)
    return read(cluster, answers, found, problem)


def _ask_store(cluster: Cluster, seconds: float) -> list[dict[str, Any]]:
    (store,) = cluster.group("metrics")
    url = f"http://127.0.0.1:{store.data['metrics_http_port']}/api/v1/query"
    script = f"{CURL} -f --max-time {seconds:g} --data-urlencode query@- {shlex.quote(url)}"
    done = hosts.run(store, script, seconds=seconds, stdin=query(store.data["metrics_promise_ms"]).encode())
    if done.returncode:
        said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
        raise Failure(f"{store.name}: {said[-1] if said else 'the metrics store does not answer'}")
    return json.loads(done.stdout)["data"]["result"]


def read(
    cluster: Cluster, answers: Mapping[str, bool], found: Iterable[Mapping[str, Any]], problem: str | None
) -> dict[str, Any]:
    """The document, from what was seen. Numbers that nobody gave are null.

    :param answers: {host: whether it answers by SSH}
    :param found: the result of `query`, as VictoriaMetrics gives it
    """
    (store,) = cluster.group("metrics")
    rows: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for each in found:
        labels = defaultdict(str, each["metric"])  # anybody may send a sample, and an empty label is not stored
        value = float(each["value"][1])
        if math.isfinite(value):  # NaN is what a silent cluster's shares are
            rows[labels.pop("q", "")].append((labels, value))

    def by_host(name: str) -> dict[str, float]:
        return {labels["host"]: value for labels, value in rows[name]}

    def only(name: str) -> float | None:
        return rows[name][0][1] if rows[name] else None

    heard, cpu = by_host("heard"), by_host("cpu")
    gates = {labels["gate"]: value == 1 for labels, value in rows["fdb_gate"]}
    took = {labels["id"]: value for labels, value in rows["mark_took"]}
    return {
        "cluster": cluster.name,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "store": cluster.store_engine,
        "virtual_ip": cluster.data.get("proxy_virtual_ip"),
        "metrics_problem": problem,
        "promised": {"ms": store.data["metrics_promise_ms"], "share": store.data["metrics_promise_share"]},
        "promise": {name: {what: only(f"promise/{name}/{what}") for what in _PROMISE} for name in _WINDOWS},
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "groups": [group for group in GROUPS if group in host.groups],
                "state": _state(answers[host.name], heard.get(host.name), problem, host),
                "heard_seconds_ago": heard.get(host.name),
                "cpu_percent": cpu.get(host.name) if heard.get(host.name, 1e9) < SILENT_SECONDS else None,
            }
            for host in cluster.hosts.values()
        ],
        "versions": {
            "foundationdb": {labels["version"]: int(value) for labels, value in rows["fdb_version"]},
            "etcd": _count(labels["server_version"] for labels, _ in rows["etcd"]),
        },
        "releases": _releases(rows["worker"]),
        "flags": {},
        "gates": {
            "foundationdb_up": None if only("fdb_up") is None else only("fdb_up") == 1,
            "foundationdb": gates,
            "etcd_members": len(cluster.group("etcd")),
            "etcd_with_leader": sum(value == 1 for _, value in rows["etcd_leader"]),
            "etcd_quota_used": by_host("etcd_quota"),
            "etcd_alarms": sorted(
                f"{labels['alarm']} on {labels['host']}" for labels, up in rows["etcd_alarm"] if up
            )
            if rows["etcd_alarm"]
            else None,
        },
        "marks": [
            # Known fields alone: a mark has whatever labels its sender gave it, and they may be named as ours are.
            {"at": at, "seconds": took.get(labels["id"], 0.0), **{name: labels[name] for name in MARK_LABELS}}
            for labels, at in sorted(rows["mark"], key=lambda row: -row[1])[:MARKS]
        ],
    }


def _state(answers: bool, heard: float | None, problem: str | None, host: Host) -> str:
    """up; silent: runs, but sends no metrics; unreachable: sends metrics, but is not reached from here; down."""
    if problem is not None or host.groups <= {"spare"}:
        return "up" if answers else "down"
    if heard is not None and heard < SILENT_SECONDS:
        return "up" if answers else "unreachable"
    return "silent" if answers else "down"


def _count(items: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for item in items:
        found[item] += 1
    return dict(found)


def _releases(rows: Iterable[tuple[Mapping[str, str], float]]) -> list[dict[str, Any]]:
    """[{slot, release, workers: {unit: count}}], of workers that live."""
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for labels, value in rows:
        found[labels["slot"], labels["release"]][labels["unit"]] = int(value)
    return [
        {"slot": slot, "release": release, "workers": dict(sorted(workers.items()))}
        for (slot, release), workers in sorted(found.items())
    ]


Paint = Callable[[str, str], str]


def screen(seen: Mapping[str, Any], paint: Paint = lambda text, colour: text, columns: int = 80) -> str:
    """The document for a terminal. Pure.

    :param paint: puts a text into a colour: green, yellow, red, or bold
    """
    when = seen["time"].replace("+00:00", "Z")
    title = f"{seen['cluster']}   {seen['virtual_ip'] or ''}   {seen['store']} store"
    lines = [paint(title, "bold") + when.rjust(max(1, columns - len(title))), ""]
    if seen["metrics_problem"]:
        text = f"No metrics: {seen['metrics_problem']}"
        lines += [paint(text[:columns], "red"), ""]
    else:
        lines += [*_promise_lines(seen["promise"], seen["promised"], paint), ""]
    lines += _host_lines(seen["hosts"], paint)
    if not seen["metrics_problem"]:
        lines += ["", *_rest_lines(seen, paint, columns)]
    return "\n".join(lines)


def _promise_lines(promise: Mapping[str, Any], promised: Mapping[str, float], paint: Paint) -> list[str]:
    lines = [("PROMISE", f"within {promised['ms']:g} ms", "p99", "reads/s", "shed/s", "errors/s")]
    colours = []
    for name, row in promise.items():
        share = row["within"]
        colours.append(
            {
                1: "" if share is None else "green" if share >= promised["share"] else "red",
                4: "yellow" if row["shed_per_second"] else "",
                5: "red" if row["errors_per_second"] else "",
            }
        )
        lines.append(
            (
                f"  {name}", f"{100 * share:.2f} %" if share is not None else "no reads",
                _number(row["p99_ms"], " ms"), _number(row["reads_per_second"]), _number(row["shed_per_second"]),
                _number(row["errors_per_second"]),
            )
        )  # fmt: skip
    return _painted(padded(lines), colours, paint)


def _host_lines(found: Iterable[Mapping[str, Any]], paint: Paint) -> list[str]:
    lines = [("HOSTS", "address", "groups", "state", "cpu", "last heard")]
    colours = []
    for host in found:
        heard, cpu = host["heard_seconds_ago"], host["cpu_percent"]
        colours.append({3: STATES[host["state"]]})
        lines.append(
            (
                f"  {host['name']}", host["address"], " ".join(host["groups"]), host["state"],
                "" if cpu is None else f"{cpu:.0f} %",
                "" if heard is None or heard < SILENT_SECONDS else _ago(heard),
            )
        )  # fmt: skip
    return _painted(padded(lines, left=(0, 1, 2, 3, 5)), colours, paint)


def _painted(rows: list[list[str]], colours: Iterable[Mapping[int, str]], paint: Paint) -> list[str]:
    """A table's lines. `colours`: {column: colour} of each row below the heads; cells are padded before that."""
    for cells, coloured in zip(rows[1:], colours, strict=True):
        for column, colour in coloured.items():
            cells[column] = paint(cells[column], colour)
    return ["  ".join(cells).rstrip() for cells in rows]


def _rest_lines(seen: Mapping[str, Any], paint: Paint, columns: int) -> list[str]:
    gates, lines = seen["gates"], []

    def say(name: str, text: str, colour: str = "") -> None:
        for number, part in enumerate(textwrap.wrap(text, columns - 12)):
            lines.append(f"{'' if number else name:<12}{paint(part, colour)}")

    versions = [
        f"{what} {version} ({count})"
        for what, name in (("FoundationDB", "foundationdb"), ("etcd", "etcd"))
        for version, count in seen["versions"][name].items()
    ]
    say("VERSIONS", ", ".join(versions) or "none seen", "yellow" if not versions else "")
    for number, row in enumerate(seen["releases"]):
        workers = ", ".join(f"{count} {unit}" for unit, count in row["workers"].items())
        say("" if number else "RELEASES", f"slot {row['slot']}: {row['release']} ({workers})")
    if not seen["releases"]:
        say("RELEASES", "no worker is alive", "red")
    say("FLAGS", "none")
    if seen["store"] == "fdb":
        red = [name for name, green in gates["foundationdb"].items() if not green]
        total = len(gates["foundationdb"])
        if gates["foundationdb_up"] is None:
            say("GATES", "FoundationDB: nothing is known; griddle-metrics-exporter on the metrics host?", "red")
        elif not gates["foundationdb_up"]:
            say("GATES", "FoundationDB is DOWN", "red")
        elif red:
            say("GATES", f"FoundationDB: {len(red)} of {total} red: {'; '.join(sorted(red))}", "red")
        else:
            say("GATES", f"FoundationDB: all {total} green", "green")
    for number, (text, colour) in enumerate(_etcd(gates)):
        say("GATES" if seen["store"] != "fdb" and not number else "", text, colour)
    for number, mark in enumerate(seen["marks"]):
        at = time.strftime("%m-%d %H:%M", time.gmtime(mark["at"]))
        outcome = mark["outcome"]
        after = f": {outcome} in {mark['seconds']:.0f} s" if outcome else ""
        text = f"{at}  {mark['kind']} {mark['title']}{after}"
        say("" if number else "LAST", text, "red" if outcome in ("failed", "aborted") else "")
    return lines


def _etcd(gates: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Lines about etcd, and their colours."""
    leaders, members = gates["etcd_with_leader"], gates["etcd_members"]
    colour = "green" if leaders == members else "yellow" if 2 * leaders > members else "red"
    yield f"etcd: {leaders} of {members} members see a leader", colour
    if used := gates["etcd_quota_used"]:
        host = max(used, key=used.__getitem__)
        share = used[host]
        colour = "red" if share >= QUOTA_FULL else "yellow" if share >= QUOTA_NEAR else "green"
        full = ", the store takes no more writes" if share >= QUOTA_FULL else ""
        yield f"etcd: {share:.0%} of the quota used on {host}{full}", colour
    if gates["etcd_alarms"] is None:
        yield "etcd: nothing is known of alarms; griddle-metrics-exporter on the metrics host?", "yellow"
    for alarm in gates["etcd_alarms"] or ():
        yield f"etcd: ALARM {alarm}, no key can be put: ./griddle etcd status", "red"


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def status(inventory: Path, as_json: bool, seconds: float) -> None:
    """Print it. Raises Failure, after what could be seen, where the metrics store does not answer."""
    seen = gather(hosts.cluster(inventory), seconds)
    if as_json:
        click.echo(json.dumps(seen, indent=2))
    else:
        colours = {"bold": {"bold": True}, "": {}}

        def paint(text: str, colour: str) -> str:
            return click.style(text, **colours.get(colour, {"fg": colour})) if sys.stdout.isatty() else text

        click.echo(screen(seen, paint, min(100, max(80, shutil.get_terminal_size().columns))))
    if seen["metrics_problem"]:
        raise Failure(f"no metrics: {seen['metrics_problem']}")
