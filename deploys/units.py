"""systemd units against the inputs that they should be running with: pure.

A run that dies between an upload and the restart loses the restart if that hangs on "did this run change
the file". So a unit is restarted from state: a stamp beside it holds the hash of the inputs that it was last
(re)started with, and a stamp that differs from the inputs' hash asks for a restart, whoever wrote them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

STAMPS = "/var/lib/griddle/applied"


@dataclass(frozen=True)
class Seen:
    """One unit as a host has it."""

    active: str = "inactive"  # ActiveState
    enabled: str = ""  # UnitFileState
    needs_daemon_reload: bool = False
    condition_failed: bool = False  # a Condition…= of the unit refused its last start
    stamp: str = ""  # hash of the inputs that it was last started with
    inputs: str = "-"  # hash of the inputs now


def hash_command(inputs: Iterable[str]) -> str:
    """A shell pipeline that hashes paths and contents of files (and directories' files) to one word."""
    quoted = " ".join(shlex.quote(path) for path in inputs) or "/dev/null"
    return (
        f"find -L {quoted} -type f -print0 2>/dev/null | sort -z"
        " | xargs -0r sha256sum | sha256sum | cut -c1-16"
    )


def look_command(names: Iterable[str], inputs: Iterable[str]) -> str:
    """One shell command that describes all units; read back by `parse_look`."""
    names = list(names)
    quoted = " ".join(shlex.quote(name) for name in names)
    stamps = " ".join(shlex.quote(f"{STAMPS}/{name}") for name in names)
    return (
        f'echo "inputs $({hash_command(inputs)})"; '
        f"grep -H . {stamps} /dev/null 2>/dev/null | sed 's|^{STAMPS}/|stamp |'; "
        "systemctl show -p Id,ActiveState,UnitFileState,NeedDaemonReload"
        f" -p ConditionResult,ConditionTimestampMonotonic {quoted} 2>/dev/null; true"
    )


def parse_look(lines: Iterable[str]) -> dict[str, Seen]:
    """Parse `look_command`'s output into {unit: Seen}."""
    inputs, stamps, blocks, block = "-", {}, [], {}
    for line in [*lines, ""]:
        if line.startswith("inputs "):
            inputs = line.removeprefix("inputs ")
        elif line.startswith("stamp "):
            name, _, value = line.removeprefix("stamp ").partition(":")
            stamps[name] = value
        elif "=" in line:
            key, _, value = line.partition("=")
            if key in block:
                blocks.append(block)
                block = {}
            block[key] = value
        elif block:
            blocks.append(block)
            block = {}
    return {
        b["Id"]: Seen(
            active=b.get("ActiveState", "inactive"),
            enabled=b.get("UnitFileState", ""),
            needs_daemon_reload=b.get("NeedDaemonReload") == "yes",
            condition_failed=b.get("ConditionResult") == "no"
            and b.get("ConditionTimestampMonotonic", "0") != "0",
            stamp=stamps.get(b["Id"], ""),
            inputs=inputs,
        )
        for b in blocks
        if "Id" in b
    }


def action(seen: Seen, *, reload: bool = False) -> str | None:
    """What brings a unit to its inputs: "start", "restart", "reload" or None."""
    if seen.active in ("active", "activating", "reloading"):
        if seen.stamp == seen.inputs and not seen.needs_daemon_reload:
            return "start" if seen.enabled == "disabled" else None  # it would not come back after a boot
        # An unknown stamp means that nobody knows what the process was started with.
        return "reload" if reload and seen.stamp else "restart"
    if seen.condition_failed and seen.stamp == seen.inputs:
        return None  # this host refuses the unit, and nothing about it changed since
    return "start"


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
        "systemctl daemon-reload",
        f"systemctl enable --quiet {unit}",
        f"systemctl reset-failed {unit} 2>/dev/null || true",
        # Hashed before the act: inputs that change meanwhile must ask for another restart.
        f"inputs=$({hash_command(inputs)})",
        f"rm -f {stamp}",
        f"if ! systemctl {verb} {'' if block else '--no-block '}{unit}; then",
        f"  echo {shlex.quote(f'{name} failed to {verb}; its log ends:')} >&2",
        f"  journalctl -u {unit} -n 20 --no-pager -o cat >&2; exit 1; fi",
    ]
    if ready:
        lines.append(f"( {ready_command(ready, ready_seconds, name)} ) || exit 1")
    return "\n".join([*lines, f'mkdir -p {STAMPS} && echo "$inputs" > {stamp}'])


def ready_command(ready: str, seconds: int, name: str) -> str:
    """A shell script that polls ``ready`` until it exits 0, and prints its last output after ``seconds``."""
    return "\n".join(
        [
            f"end=$(( $(cut -d. -f1 /proc/uptime) + {seconds} ))",
            f"while :; do seen=$( ( {ready} ) 2>&1 ) && exit 0",
            '[ "$(cut -d. -f1 /proc/uptime)" -ge "$end" ] && break',
            "sleep 0.2; done",
            f"echo {shlex.quote(f'{name}: not ready after {seconds} s; last seen:')} \"$seen\"; exit 1",
        ]
    )
