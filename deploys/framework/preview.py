"""What a run would change is noted while pyinfra prepares it, and said where pyinfra lists what it has detected.

A dry run does nothing, so what an operation would find is not always what the host has now. Of each host is kept
what earlier operations of the run bring: what a later one wants as well is not said twice, and a unit that reads
one of those files is known to be restarted, which its state on the host cannot tell yet.

While operations are executed none of this counts: they go by what hosts have.
"""

from __future__ import annotations

import atexit
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from pyinfra import host, logger, state
from pyinfra.api.output import echo, format_text
from pyinfra.api.state import BaseStateCallback, State

from cluster import model
from cluster.data import SETTINGS
from deploys.framework import changes, units
from deploys.framework.changes import Change
from deploys.framework.facts import Contents
from deploys.framework.tree import Entry, Link, Present

Value = TypeVar("Value")


@dataclass
class _Coming:
    """What earlier operations of this run bring to a host."""

    things: dict[tuple[str, str], Any] = field(default_factory=dict)  # {(kind, name): as it will be}
    paths: list[tuple[str, bool]] = field(default_factory=list)  # that change, in order, and whether it is a link
    acts: dict[str, int] = field(default_factory=dict)  # {unit: how many paths had changed when it was acted on}


_coming: dict[str, _Coming] = defaultdict(_Coming)
_noted: dict[str, dict[str, list[Change]]] = defaultdict(dict)  # {operation's hash: {host: changes}}


# --- for operations


def left(kind: str, things: Mapping[str, Value]) -> dict[str, Value]:
    """Of what a host has not as wanted: what no earlier operation of this run brings."""
    if state.is_executing:
        return dict(things)
    known = _coming[host.name].things
    return {name: thing for name, thing in things.items() if known.get((kind, name), ...) != thing}


def bring(kind: str, things: Mapping[str, Any]) -> None:
    """This operation would bring these: {name: as it will be}."""
    if not state.is_executing:
        coming = _coming[host.name]
        coming.things |= {(kind, name): thing for name, thing in things.items()}
        if kind == "file":
            coming.paths += [(path, isinstance(thing, Link)) for path, thing in things.items()]


def changes_path(path: str) -> bool:
    """Whether an earlier operation of this run would change it."""
    return not state.is_executing and ("file", path) in _coming[host.name].things


def note(*found: Change) -> None:
    """The operation that is prepared, or was not prepared (-y) and is executed, changes these."""
    if not (state.is_executing and state.should_check_for_changes()):
        _noted[host.current_op_hash].setdefault(host.name, []).extend(found)


def note_files(wanted: Mapping[str, Entry], changed: Iterable[str], seen: Mapping[str, Present]) -> None:
    """The operation puts these in place; with --diff, how they differ from what the host has."""
    changed, contents = list(changed), None
    if state.config.DIFF and not (state.is_executing and state.should_check_for_changes()):
        paths = changes.to_read(wanted, changed, seen)
        contents = host.get_fact(Contents, paths=paths) if paths else {}
    secrets = [str(value) for key, value in host.data.dict().items() if _is_secret(key) and value]
    note(*changes.of_files(wanted, changed, seen, contents, secrets))


def _is_secret(key: str) -> bool:
    return key in SETTINGS and SETTINGS[key].secret


def action(name: str, seen: units.UnitSeen, inputs: Iterable[str], *, reload: bool = False) -> units.Act | None:
    """`units.action`, as it will be when the run comes to it."""
    if state.is_executing:
        return units.action(seen, reload=reload)
    coming = _coming[host.name]
    acted = coming.acts.get(name)
    paths = dict(coming.paths[acted or 0 :])
    now = seen if acted is None else units.AS_WANTED
    return units.action(now, reload=reload, coming=units.coming(name, inputs, paths))


def note_acts(acts: Mapping[str, units.Act]) -> None:
    """The operation does this to units."""
    if not state.is_executing:
        coming = _coming[host.name]
        coming.acts |= dict.fromkeys(acts, len(coming.paths))
    note(*(Change("unit", act.verb, name, (act.why,)) for name, act in acts.items()))


# --- for pyinfra


def say_with_pyinfra() -> None:
    """For config.py: pyinfra has no hook where it says, in words or as JSON, what it has detected."""
    cli, prints = sys.modules["pyinfra_cli.cli"], sys.modules["pyinfra_cli.prints"]  # they are running this
    print_meta, build_plan = cli.print_meta, prints.build_plan_json

    def with_changes(run: State) -> None:
        print_meta(run)
        _say_detected(run)

    def with_data(run: State) -> list[dict]:
        return [entry | {"changes": _data(entry["op_hash"])} for entry in build_plan(run)]

    cli.print_meta, prints.build_plan_json = with_changes, with_data


def _data(op_hash: str) -> dict[str, list[dict]]:
    return {name: [asdict(change) for change in found] for name, found in _noted.get(op_hash, {}).items()}


def _say_detected(run: State) -> None:
    operations = [*_operations(run, run.get_op_order())]
    detected = any(op.operation_meta._maybe_is_change for ops in run.ops.values() for op in ops.values())
    if not detected:
        logger.info("--> Nothing would change.")
        return
    hosts = len(run.inventory.get_active_hosts())
    if lines := changes.listing(operations, hosts, _paint):
        logger.info("--> What would change:")
        _say(lines)
    if lines := changes.acts_on_units(operations, hosts):
        echo(err=True)
        logger.info("--> What would be done to units:")
        _say(lines)


def _operations(run: State, hashes: Iterable[str]) -> Iterator[tuple[str, changes.Noted]]:
    for op_hash in hashes:
        noted = {model.short_name(name): found for name, found in _noted.get(op_hash, {}).items() if found}
        order = [model.short_name(each.name) for each in run.inventory if model.short_name(each.name) in noted]
        yield next(iter(run.get_op_meta(op_hash).names)), {name: noted[name] for name in order}


def _say(lines: Iterable[str]) -> None:
    for line in lines:  # not by its logger, which takes a line with an arrow for a heading
        echo(f"    {line}", err=True)


def _paint(line: str, colour: str) -> str:
    return format_text(line, colour) if colour else line


def watch(run: State) -> None:
    """A run with -y and --diff says what it changes, too: an operation at a time, when it has ended."""
    is_watched = any(isinstance(handler, _Executed) for handler in run.callback_handlers)
    if run.config.DIFF and not run.should_check_for_changes() and not is_watched:
        executed = _Executed()
        run.add_callback_handler(executed)
        atexit.register(executed.rest, run)


class _Executed(BaseStateCallback):
    def __init__(self) -> None:
        self._said: set[str] = set()

    def operation_end(self, run: State, op_hash: str) -> None:
        self._said.add(op_hash)
        _say(changes.listing(_operations(run, [op_hash]), len(run.inventory), _paint))

    def rest(self, run: State) -> None:
        """Of an operation that did not end, and of all where pyinfra runs host by host (--serial, --no-wait)."""
        for op_hash in [each for each in run.get_op_order() if each not in self._said]:
            self.operation_end(run, op_hash)
