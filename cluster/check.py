"""Bad input is found here, before any host is touched: one line per problem, exit code 2.

What a component's own data must be is the component's (deploys/<component>/checks.py), which registers it here.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cluster import forms, model
from cluster.data import CLUSTER, OTHER_CONNECTORS, RUN, SETTINGS, Setting
from cluster.errors import UserError
from cluster.model import Cluster, Host
from tuning import profiles

# Where the kernel takes a port for an outgoing connection, if no profile says otherwise (ip-sysctl).
OUTGOING_PORTS = "32768 60999"

# Of which components a deploy needs the files, where it is not all of them: to look at a cluster or to mend it, a
# machine needs neither a release nor packages.
FILES_OF = {
    "etcd_members.py": frozenset(),
    "etcd_restore.py": frozenset(),
    "fdb_status.py": frozenset(),
    "fdb_backup.py": frozenset(),
    "fdb_restore.py": frozenset(),
    "fdb_members.py": frozenset(),  # but for a host that joins
}


@dataclass(frozen=True)
class Checks:
    """What a component knows of its own data.

    :param settings: its keys; they join `cluster.data.SETTINGS`
    :param faults: lines about values that are good alone and cannot be together
    :param ports: TCP ports that it listens on on a host, each with what wants it
    :param files: functions that raise UserError or ValueError where a file that the data names is missing
    """

    settings: Mapping[str, Setting] = field(default_factory=dict)
    faults: Callable[[Cluster], Iterable[str]] = lambda cluster: ()
    ports: Callable[[Cluster, Host], Iterable[tuple[int, str]]] = lambda cluster, host: ()
    files: Callable[[Cluster], Iterable[Callable[[], object]]] = lambda cluster: ()


COMPONENTS: dict[str, Checks] = {}
"""{name: its checks}; deploys/components.py registers all of them."""


def register(name: str, checks: Checks) -> None:
    COMPONENTS[name] = checks
    SETTINGS.update(checks.settings)


def problems(cluster: Cluster) -> list[str]:
    """What is wrong with a cluster's hosts and data, as lines for the operator; empty if nothing is.

    Whether values agree with each other is looked at only once each of them has its form.
    """
    found = [*_hosts(cluster), *_groups(cluster), *_values(cluster)] or [*_agreement(cluster)]
    return [*_merged(found)]


def _merged(lines: Iterable[str]) -> Iterator[str]:
    """What is the same of several hosts ("host app1: ...") is said once."""
    found: dict[str, list[str]] = {}
    for line in lines:
        match = re.fullmatch(r"host (\S+): (.*)", line, re.DOTALL)
        names = found.setdefault(match[2] if match else line, [])
        if match and match[1] not in names:
            names.append(match[1])
    for what, names in found.items():
        yield f"host{'s' * (len(names) > 1)} {', '.join(names)}: {what}" if names else what


def _hosts(cluster: Cluster) -> Iterator[str]:
    by_address = defaultdict(list)
    for host in cluster.hosts.values():
        by_address[host.address].append(host.name)
    for address, names in by_address.items():
        if address and len(names) > 1:
            yield f"address {address} belongs to {' and '.join(names)}; every host needs its own"


def _groups(cluster: Cluster) -> Iterator[str]:
    count = {name: len(cluster.group(name)) for name in model.GROUPS}
    if count["etcd"] % 2 == 0:
        yield f"group etcd has {count['etcd']} members; an odd number keeps a majority (3 or 5)"
    for name in ("proxies", "apps"):
        if not count[name]:
            yield f"group {name} has no host"
    for host in cluster.group("spare"):
        if "fdb" in host.groups:
            yield f"host {host.name} is in the groups fdb and spare; it is part of the database or not"
    for host in cluster.group("proxies"):
        if "metrics" in host.groups:
            yield f"host {host.name} is in proxies and in metrics; nginx serves reads there or the board, not both"
    if count["metrics"] != 1:
        yield f"group metrics has {count['metrics']} hosts; exactly 1 is needed"


def _values(cluster: Cluster) -> Iterator[str]:
    """Every key of every host against the table: one line for each place where something wrong was set."""
    for host in cluster.hosts.values():
        yield from _host_values(host)
    for key, setting in SETTINGS.items():
        if setting.scope == CLUSTER:
            by_value: list[tuple[Any, list[str]]] = []  # what is shown may be a part of it, or nothing
            for host in cluster.hosts.values():
                if key in host.data:
                    value = host.data[key]
                    names = next((names for known, names in by_value if known == value), None)
                    if names is None:
                        by_value.append((value, names := []))
                    names.append(host.name)
            if len(by_value) > 1:
                differing = "; ".join(f"{_shown(key, value)} on {', '.join(names)}" for value, names in by_value)
                yield f"{key} is the cluster's, the same on all hosts, and differs: {differing}"


def _host_values(host: Host) -> Iterator[str]:
    for key, value in host.data.items():
        source = host.sources.get(key, f"host {host.name}")
        if not isinstance(key, str) or key.startswith(("_", *OTHER_CONNECTORS)):
            continue  # of pyinfra's own
        if (setting := SETTINGS.get(key)) is None:
            yield f"{source}: {key}: no such key{_near(key, set(SETTINGS))}"
            continue
        if setting.scope == RUN and source != "--data":
            yield f"{source}: {key} is for one run, by --data {key}=..."
        for fault in setting.form.faults(value):
            yield f"{source}: {key}{fault.where} is {_shown(key, fault.value)}; {fault.words} is needed"
    for key, setting in SETTINGS.items():
        if (setting.on == "all" or setting.on in host.groups) and key not in host.data:
            yield f"host {host.name}: {key} is not set"


def _shown(key: str, value: Any) -> str:
    """A value in an error: on one line, not too long, and no secret."""
    if SETTINGS[key].secret and value:
        return "(a secret)"
    return forms.shown(value)


def _agreement(cluster: Cluster) -> Iterator[str]:
    """Values that are good alone and cannot be together."""
    for host in cluster.hosts.values():
        yield from _ports(cluster, host)
    for checks in COMPONENTS.values():
        yield from checks.faults(cluster)


def listening(cluster: Cluster, host: Host) -> Iterator[tuple[int, str]]:
    """All TCP ports that a host listens on, each with what wants it."""
    yield model.ssh_port(host), "ssh"
    for checks in COMPONENTS.values():
        yield from checks.ports(cluster, host)


def _ports(cluster: Cluster, host: Host) -> Iterator[str]:
    """Two of a host's ports are one, there is no such port, or the kernel may have given it away."""
    first, last = map(int, kernel(host, "net.ipv4.ip_local_port_range", OUTGOING_PORTS).split())
    wanted: dict[int, str] = {}
    said = set()  # a key's ranges of a hundred ports would be a hundred lines
    for port, what in listening(cluster, host):
        other = wanted.setdefault(port, what)
        pair = (what.partition(" ")[0], other.partition(" ")[0])
        if port > 65535:
            line = f"port {port} of {what} does not exist"
        elif other is not what:
            line = f"port {port} is wanted by {other} and by {what}"
        elif first <= port <= last:
            line = f"port {port} of {what} is one that outgoing connections take ({first} to {last}, base_profile)"
        else:
            continue
        if pair not in said:
            said.add(pair)
            yield f"host {host.name}: {line}"


def kernel(host: Host, name: str, otherwise: str) -> str:
    """A sysctl's value by the host's profile; a profile that cannot be read is refused elsewhere."""
    try:
        settings = profiles.load(host.data["base_profile"])
    except profiles.ProfileError:
        return otherwise
    return next((str(s.value) for s in settings if (s.table, s.key) == ("sysctl", name)), otherwise)


def _shape(path: Path, names: Mapping[str, Any]) -> Iterator[str]:
    """What is no group, or no host in one, in an inventory file's variables."""
    for key, value in names.items():
        if key.startswith("_") or not isinstance(value, list | tuple):
            continue
        if key not in (*model.GROUPS, "all"):
            yield f"{path}: unknown group {key}; one of: {', '.join(model.GROUPS)}"
            continue
        for entry in value:
            name, data = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, {})
            if not isinstance(name, str) or not isinstance(data, dict):
                yield f"{path}: group {key}: {entry!r} is no host; (name, {{key: value}}) is needed"
            elif [*forms.HOST_NAME.faults(model.short_name(name))]:
                yield f"{path}: group {key}: host {name!r}: {forms.HOST_NAME.words} is needed"
            elif odd := [each for each in data if not re.fullmatch(r"\w+", str(each))]:
                yield f"{path}: group {key}: host {name}: {odd[0]!r} is no key"


def _components(overrides: Mapping[str, Any]) -> Iterator[str]:
    """``--data component=`` names a component that there is not, which would be passed over in silence, or none,
    which would be all of them.
    """
    if "component" not in overrides:
        return
    names = {*filter(None, str(overrides["component"] or "").split(","))}
    if not names:
        yield "--data component=: no component is named; without it all of them are applied"
    for name in sorted(names - COMPONENTS.keys()):
        yield f"--data component={name}: no such component{_near(name, {*COMPONENTS})}"


def _near(word: str, known: set[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; {near[0]}?" if near else ""


def refused(
    path: Path, names: Mapping[str, Any], overrides: Mapping[str, Any], *, files: bool = False
) -> list[str]:
    """What is wrong with an inventory file's variables and all data, as lines for the operator.

    :param names: the file's global variables
    :param overrides: ``--data`` of the command line
    :param files: look also for the files that the data names
    """
    if found := [*_shape(path, names)]:
        return found
    try:
        cluster = model.from_file(path, names, overrides)
    except UserError as error:
        return [str(error)]
    found = [*problems(cluster), *_components(overrides)]
    return found or ([*_files(cluster, _wanted(overrides))] if files else [])


def _wanted(overrides: Mapping[str, Any]) -> set[str]:
    """Components of which this run needs the files: those that are asked for, else those that the deploys need."""
    if component := overrides.get("component"):
        return set(component.split(","))
    deploys = [Path(name).name for name in _command_line("operations") if name.endswith(".py")]
    wanted = set().union(*(FILES_OF.get(name, COMPONENTS.keys()) for name in deploys))
    wanted |= {"base"}  # kernel profiles, which are this checkout's
    return wanted | {"foundationdb"} if overrides.get("join") else wanted


def refuse_bad_words() -> None:
    """``--data`` without a ``=``, which pyinfra itself would meet with a traceback, is refused as bad input is."""
    if odd := [word for word in _command_line("data") if "=" not in word]:
        print(*(f"griddle: --data {word}: key=value is needed" for word in odd), sep="\n", file=sys.stderr)
        raise SystemExit(2)


def refuse_bad_input(inventory_file: str, names: dict[str, Any]) -> None:
    """Called at the end of an inventory file, so before pyinfra connects to anything.

    Ends the process with exit code 2 and one line per problem.
    """
    deploys = [Path(word).name for word in _command_line("operations") if word.endswith(".py")]
    found = [*_needs_fdb(deploys, names)]  # before its files are missed
    found = found or refused(Path(inventory_file), names, _command_line_data(), files=bool(deploys))
    if found:
        for line in found:
            print(f"griddle: {line}", file=sys.stderr)
        raise SystemExit(2)


def _needs_fdb(deploys: Iterable[str], names: Mapping[str, Any]) -> Iterator[str]:
    """An operation on FoundationDB has nothing to act on: that nothing changed would look like success."""
    for name in deploys:
        if name.startswith("fdb_") and not names.get("fdb"):
            yield f"deploys/{name}: group fdb of the inventory is empty: this cluster has no FoundationDB"


def _files(cluster: Cluster, only: set[str]) -> list[str]:
    """Problems with files that the data names: profiles, releases, FoundationDB's packages, credentials.

    :param only: components whose files are needed
    """
    found = {}
    for name, checks in COMPONENTS.items():
        for check in checks.files(cluster) if name in only else ():
            try:
                check()
            except (UserError, ValueError) as error:
                found[str(error)] = None  # components may need the same file
    return [*found]


def _command_line(parameter: str) -> tuple[str, ...]:
    """A parameter of pyinfra's own command line, which an inventory file is not given."""
    context = click.get_current_context(silent=True)
    return tuple((context.params.get(parameter) or ()) if context else ())


def _command_line_data() -> dict[str, Any]:
    """``--data key=value`` arguments."""
    pairs = _command_line("data")
    if not pairs:  # the import makes the whole process gevent's, and `./griddle` reads inventories too
        return {}
    from pyinfra_cli.util import parse_cli_arg

    return {key: parse_cli_arg(value) for key, _, value in (pair.partition("=") for pair in pairs)}
