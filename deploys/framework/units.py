"""systemd units against the inputs that they should be running with: pure.

A run that dies between an upload and the restart loses the restart if that hangs on "did this run change the
file". And a file that is as wanted says nothing of what the process has read: somebody may have changed it,
reloaded, and changed it back. So a unit is judged by state. It runs with what lies there now if

- a stamp says that an apply has last started or reloaded it with these very contents, and
- nothing of that was replaced after the process read it, by whoever's start or reload that was. What was replaced
  has a newer ctime, which nobody can set; a host that was rebooted and a process that died and came back have read
  what is there.

A unit's own definition (its file and drop-ins) is read at starts only, its inputs at reloads as well.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

STAMPS = "/var/lib/griddle/applied"
_ETC = "/etc/systemd/system"
# --timestamp: microseconds, because ctimes are compared with them
_SHOW = (
    "systemctl show --timestamp=us+utc -p Id,ActiveState,UnitFileState,NeedDaemonReload,ConditionResult"
    " -p ConditionTimestampMonotonic,FragmentPath,DropInPaths,InvocationID,InactiveExitTimestamp,ReloadResult"
    " -p StateChangeTimestamp,StateChangeTimestampMonotonic,ActiveEnterTimestampMonotonic"
)


@dataclass(frozen=True)
class Read:
    """What a process reads: a hash of names and contents, and the newest ctime (epoch seconds)."""

    contents: str = ""
    changed: str = "0"


@dataclass(frozen=True)
class Stamp:
    """What a unit was last started or reloaded with by an apply, and which start and reload that was (`load`)."""

    inputs: Read = Read()
    definition: Read = Read()
    load: str = ""


@dataclass(frozen=True)
class UnitSeen:
    """One unit as a host has it. ``stamp`` is what it was left with, ``now`` what is there now."""

    active: str = "inactive"  # ActiveState
    enabled: str = ""  # UnitFileState
    needs_daemon_reload: bool = False
    condition_failed: bool = False  # a Condition…= of the unit refused its last start
    stamp: Stamp | None = None
    now: Stamp = field(default_factory=Stamp)
    started: float = 0.0  # epoch seconds: when the start began that its process is of
    loaded: float = 0.0  # the same of the last start or reload
    ready: bool = True  # its gate is open now

    @property
    def runs(self) -> bool:
        return self.active in ("active", "activating", "reloading")

    @property
    def broken(self) -> bool:
        return self.runs and not self.ready


AS_WANTED = UnitSeen("active", stamp=Stamp(), now=Stamp())
"""A unit that an apply has just acted on."""


@dataclass(frozen=True)
class Act:
    """What brings a unit to its definition and inputs ("start", "restart" or "reload"), and why."""

    verb: str
    why: str


@dataclass(frozen=True)
class Coming:
    """What a unit reads and this run is going to change first: paths of its definition, and of its inputs."""

    definition: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


# A shell function: hash and newest ctime of files and directories, as `Read` has them. A slot is a link, and when
# that was made counts as well.
_READ = """\
read_of() {
find -L "$@" /dev/null -type f -print0 2>/dev/null | sort -z | xargs -0r sha256sum | sha256sum | cut -c1-16
{ find -L "$@" /dev/null \\( -type f -o -type d \\) -printf '%C@\\n'
for path; do [ ! -L "${path%/*}" ] || find "${path%/*}" -maxdepth 0 -printf '%T@\\n'; done
} 2>/dev/null | sort -rn | head -n 1 | grep . || echo 0; }"""


def read_command(paths: Iterable[str]) -> str:
    """A shell command that prints what `Read` has of these paths, on two lines."""
    return f"{_READ}\nread_of {' '.join(shlex.quote(path) for path in paths)}"


def look_command(
    names: Iterable[str],
    inputs: Iterable[str],
    ready: Mapping[str, str] | None = None,
) -> str:
    """One shell command that describes all units; read back by `parse_look`.

    :param ready: {unit: shell command that exits 0 when it serves}, asked where the unit runs
    """
    names = list(names)
    quoted = " ".join(shlex.quote(name) for name in names)
    stamps = " ".join(shlex.quote(f"{STAMPS}/{name}") for name in names)
    own = " ".join(sorted({shlex.quote(f"{_ETC}/{path}") for name in names for path in _own(name)}))
    lines = [
        f"echo inputs $({read_command(inputs)})",
        f"grep -H . {stamps} /dev/null 2>/dev/null | sed 's|^{STAMPS}/|stamp |'",
        f'shown=$({_SHOW} {quoted} 2>/dev/null); echo "$shown"',
        # What systemd has read, and what it will read once it is told to: it does not notice a new directory of
        # drop-ins, or a file that goes before a package's. Names of units' files have no spaces.
        f"new=$(find {own} -type f 2>/dev/null)",
        'read=$(echo "$shown" | sed -n "s/^FragmentPath=//p; s/^DropInPaths=//p")',
        'files=$(echo "$new" "$read" | tr " " "\\n" | sort -u)',
        'find -L $files /dev/null -type f -printf "ctime %C@ %p\\n" -exec sha256sum {} + 2>/dev/null',
    ]
    for name, command in (ready or {}).items():
        asked = f"systemctl is-active -q {shlex.quote(name)} && ( {command} ) >/dev/null 2>&1 </dev/null"
        lines.append(f"echo ready {shlex.quote(name)} $({asked} && echo yes || echo no)")
    return "\n".join([*lines, "true"])


def _own(name: str) -> set[str]:
    """Names below /etc/systemd/system that are read for a unit: its file, and directories of its drop-ins."""
    return {name, f"{name}.d", f"{_template(name)}.d"}


def _template(name: str) -> str:
    """The unit whose file one of several instances has: x@.service for x@1.service."""
    return re.sub(r"@.*\.", "@.", name)


def _is_of(path: PurePosixPath, name: str) -> bool:
    drop_in = path.suffix == ".conf" and not path.name.startswith(".") and path.parent.name in _own(name)
    return path.name == name or drop_in


def coming(name: str, inputs: Iterable[str], changed: Mapping[str, bool]) -> Coming:
    """What a unit reads of paths that are going to change.

    :param changed: {path: whether it is a link, so that all that lies below changes as well}
    """
    inputs = list(inputs)

    def is_input(path: str) -> bool:
        return any(
            path == each or path.startswith(f"{each}/") or (changed[path] and each.startswith(f"{path}/"))
            for each in inputs
        )

    definition = [
        path
        for path in changed
        if path.startswith(f"{_ETC}/")
        and (_is_of(PurePosixPath(path), name) or path == f"{_ETC}/{_template(name)}")
    ]
    return Coming(tuple(definition), tuple(path for path in changed if is_input(path) and path not in definition))


def parse_look(lines: Iterable[str]) -> dict[str, UnitSeen]:
    """Parse `look_command`'s output into {unit: UnitSeen}."""
    inputs, stamps, blocks, block = Read(), {}, [], {}
    sums: dict[str, str] = {}
    ctimes: dict[str, str] = {}
    ready: dict[str, bool] = {}
    for line in [*lines, ""]:
        word, _, rest = line.partition(" ")
        if word == "inputs":
            inputs = Read(*rest.split())
        elif word == "stamp":
            name, _, value = rest.partition(":")
            stamps[name] = _stamp(value)
        elif word == "ctime":
            changed, _, path = rest.partition(" ")
            ctimes[path] = changed
        elif word == "ready":
            name, _, answer = rest.rpartition(" ")
            ready[name] = answer == "yes"
        elif len(word) == 64 and rest.startswith(" /"):
            sums[rest[1:]] = word
        elif "=" in line:
            key, _, value = line.partition("=")
            if key in block:
                blocks.append(block)
                block = {}
            block[key] = value
        elif block:
            blocks.append(block)
            block = {}
    found = {}
    for shown in [b for b in blocks if "Id" in b]:
        name = shown["Id"]
        paths = {*f"{shown.get('FragmentPath', '')} {shown.get('DropInPaths', '')}".split()}
        paths |= {path for path in sums if path.startswith(f"{_ETC}/") and _is_of(PurePosixPath(path), name)}
        text = "".join(f"{sums[path]}  {path}\n" for path in sorted(paths & sums.keys()))
        definition = Read(
            hashlib.sha256(text.encode()).hexdigest()[:16],
            max((ctimes[path] for path in paths if path in ctimes), key=float, default="0"),
        )
        started = _epoch(shown.get("InactiveExitTimestamp", ""))
        reloaded = shown.get("StateChangeTimestampMonotonic") != shown.get("ActiveEnterTimestampMonotonic")
        well = shown.get("ReloadResult", "success") == "success"
        found[name] = UnitSeen(
            active=shown.get("ActiveState", "inactive"),
            enabled=shown.get("UnitFileState", ""),
            needs_daemon_reload=shown.get("NeedDaemonReload") == "yes",
            condition_failed=shown.get("ConditionResult") == "no"
            and shown.get("ConditionTimestampMonotonic", "0") != "0",
            stamp=stamps.get(name),
            now=Stamp(inputs, definition, _load(shown)),
            started=started,
            loaded=_epoch(shown.get("StateChangeTimestamp", "")) if reloaded and well else started,
            ready=ready.get(name, True),
        )
    return found


def _stamp(words: str) -> Stamp:
    """A stamp's line: five words, as `act_command` writes them; of earlier applies the first alone."""
    inputs, *more = words.split()
    if len(more) != 4:
        return Stamp(Read(inputs))
    changed, definition, definition_changed, load = more
    return Stamp(Read(inputs, changed), Read(definition, definition_changed), load)


def _load(shown: Mapping[str, str]) -> str:
    return f"{shown.get('InvocationID', '')}/{shown.get('StateChangeTimestampMonotonic', '')}"


def _epoch(timestamp: str) -> float:
    """Epoch seconds of systemd's "Wed 2026-11-25 20:30:15.123456 UTC"; 0 of none."""
    try:
        _, day, time, _ = timestamp.split()
        return datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def action(seen: UnitSeen, *, reload: bool = False, coming: Coming = Coming()) -> Act | None:
    """What brings a unit to its definition and inputs, as they will be; None where nothing has to be done."""
    if not seen.runs:
        refused = seen.condition_failed and seen.stamp
        if refused and seen.stamp.inputs.contents == seen.now.inputs.contents and not coming.inputs:
            return None  # this host refuses the unit, and nothing about it changed since
        return Act("start", "it does not run")
    if seen.stamp is None:
        return Act("restart", "nobody knows what it was started with")
    if coming.definition:
        return Act("restart", f"its definition {_changes(coming.definition)}")
    same_load = seen.stamp.load == seen.now.load
    is_defined = _is_read(seen.stamp.definition, seen.now.definition, seen.started, same_load)
    if seen.needs_daemon_reload or not is_defined:
        return Act("restart", "its definition was changed since it was started")
    takes_inputs = "reload" if reload else "restart"
    if coming.inputs:
        return Act(takes_inputs, f"its input {_changes(coming.inputs)}")
    if not _is_read(seen.stamp.inputs, seen.now.inputs, seen.loaded, same_load):
        return Act(takes_inputs, "its inputs were changed since it read them")
    return Act("start", "it would not come back after a boot") if seen.enabled == "disabled" else None


def _changes(paths: Sequence[str]) -> str:
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return f"{paths[0]} changes{more}"


def _is_read(stamped: Read, now: Read, at: float, same_load: bool) -> bool:
    """Whether a process that read at `at` (epoch seconds) has read what is there now.

    The clock may have been set since then, so the very state that an apply has left is right as well.
    """
    if stamped.contents not in ("", now.contents):
        return False
    return float(now.changed) <= at or (same_load and stamped.changed == now.changed)


def act_command(
    name: str,
    verb: str,
    inputs: Iterable[str],
    *,
    block: bool = True,
    ready: str | None = None,
    ready_seconds: int = 30,
) -> str:
    """A shell script that does it, waits until the unit is ready, and only then stamps it.

    It fails with the end of the unit's log where the act fails, with what was seen last where the gate does.

    :param block: wait until systemd says that the unit has started
    :param ready: a shell command, polled until it exits 0
    """
    unit, stamp = shlex.quote(name), shlex.quote(f"{STAMPS}/{name}")
    lines = [
        # once: `enable` would have systemd read all units a second time
        f"systemctl enable --quiet --no-reload {unit}",
        "systemctl daemon-reload",
        f"systemctl reset-failed {unit} 2>/dev/null || true",
        f"show() {{ systemctl show -p $1 --value {unit}; }}",
        # Read before the act: what changes meanwhile must ask for another one.
        f"inputs=$({read_command(inputs)})",
        f"definition=$({_READ}\nread_of $(show FragmentPath) $(show DropInPaths))",
        f"rm -f {stamp}",
        f"if ! systemctl {verb} {'' if block else '--no-block '}{unit}; then",
        f"  echo {shlex.quote(f'{name} failed to {verb}; its log ends:')} >&2",
        f"  journalctl -u {unit} -n 20 --no-pager -o cat >&2; exit 1; fi",
    ]
    if ready:
        lines.append(f"( {ready_command(ready, ready_seconds, name)} ) || exit 1")
    return "\n".join(
        [
            *lines,
            f"mkdir -p {STAMPS}",
            f"echo $inputs $definition $(show InvocationID)/$(show StateChangeTimestampMonotonic) > {stamp}",
        ]
    )


def ready_command(ready: str, seconds: int, name: str) -> str:
    """A shell script that polls ``ready`` until it exits 0, and prints its last output after ``seconds``."""
    return "\n".join(
        [
            f"end=$(( $(cut -d. -f1 /proc/uptime) + {seconds} ))",
            f"while :; do seen=$( ( {ready} ) 2>&1 ) && exit 0",
            '[ "$(cut -d. -f1 /proc/uptime)" -ge "$end" ] && break',
            "sleep 0.2; done",
            f'echo {shlex.quote(f"{name}: not ready after {seconds} s; last seen:")} "$seen"; exit 1',
        ]
    )
