"""What an app host has of releases, slots and workers."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase

from deploys.app.config import RELEASES, SLOTS


@dataclass
class Installed:
    """releases: complete ones, newest first; slots: {slot: version}; workers: enabled or running units."""

    releases: list[str] = field(default_factory=list)
    slots: dict[str, str] = field(default_factory=dict)
    workers: list[str] = field(default_factory=list)


def parse(lines: Iterable[str]) -> Installed:
    """Read the fact's lines: a word that says what, then a name, then what belongs to it."""
    seen = Installed()
    for line in lines:
        kind, _, rest = line.strip().partition(" ")
        if kind == "release":
            seen.releases.append(rest)
        elif kind == "slot":
            slot, _, target = rest.partition(" ")
            seen.slots[slot] = target.rpartition("/")[2]
        elif kind == "worker" and rest not in seen.workers:
            seen.workers.append(rest)
    return seen


class AppInstallation(FactBase[Installed]):
    """Releases, slots and workers of this host."""

    default = Installed

    def command(self) -> str:
        return (
            f"ls -1t {shlex.quote(RELEASES)} 2>/dev/null | sed 's/^/release /'; "
            f"find {shlex.quote(SLOTS)} -maxdepth 1 -type l -printf 'slot %f %l\\n' 2>/dev/null; "
            "{ ls -1 /etc/systemd/system/griddle.target.wants 2>/dev/null;"
            " systemctl list-units --all --plain --no-legend 'griddle-*@*' 2>/dev/null | awk '{print $1}'; }"
            " | grep -E '^griddle-(store|front|feed)@' | sed 's/^/worker /'; true"
        )

    def process(self, output: list[str]) -> Installed:
        return parse(output)
