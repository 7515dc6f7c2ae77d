"""Facts: one command each, thin over the pure parsers beside them."""

from __future__ import annotations

import shlex

from pyinfra.api import FactBase

from deploys.framework import tree, units


class Tree(FactBase[dict[str, tree.Present]]):
    """State of the given paths: {path: Seen}; absent paths are left out."""

    default = dict

    def command(self, paths: list[str]) -> str:
        return tree.look_command(paths)

    def process(self, output: list[str]) -> dict[str, tree.Present]:
        return tree.parse_look(output)


class Contents(FactBase[dict[str, tree.Content]]):
    """Contents of the given files: {path: Content}; absent ones are left out."""

    default = dict

    def command(self, paths: list[str]) -> str:
        return tree.read_command(paths)

    def process(self, output: list[str]) -> dict[str, tree.Content]:
        return tree.parse_read(output)


class MissingPackages(FactBase[list[str]]):
    """Those of the given Debian packages that are not fully installed."""

    default = list

    def command(self, names: list[str]) -> str:
        wanted = " ".join(shlex.quote(name) for name in names)
        return (
            "has=$(dpkg-query -W -f ' ${Package}=${db:Status-Status} ' "
            f"{wanted} 2>/dev/null); "
            f'for p in {wanted}; do case "$has" in *" $p=installed "*) ;; *) echo "$p" ;; esac; done; '
            # A run that was killed during an installation leaves its start guard behind.
            "grep -qs griddle-guard /usr/sbin/policy-rc.d && echo '!guard' || true"
        )

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output if line.strip()]


class MissingUsers(FactBase[list[str]]):
    """Those of the given users that do not exist."""

    default = list

    def command(self, names: list[str]) -> str:
        return f"for u in {' '.join(map(shlex.quote, names))}; do getent passwd $u >/dev/null || echo $u; done"

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output if line.strip()]


class Units(FactBase[dict[str, units.UnitSeen]]):
    """Systemd units, what they were last started with, and whether they serve: see `units.look_command`."""

    default = dict

    def command(self, names: list[str], inputs: list[str], ready: dict[str, str] | None = None) -> str:
        return units.look_command(names, inputs, ready)

    def process(self, output: list[str]) -> dict[str, units.UnitSeen]:
        return units.parse_look(output)
