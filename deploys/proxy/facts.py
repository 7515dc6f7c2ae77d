"""What a proxy's network looks like."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra.api import FactBase, FactProcessError


def parse_interface(lines: Iterable[str]) -> str:
    """The interface in `ip -o -4 address show`'s "2: host0    inet 10.1.2.11/24 ..."; "" if there is none."""
    for line in lines:
        words = line.split()
        if len(words) > 3 and words[2] == "inet":
            return words[1]
    return ""


class InterfaceOf(FactBase[str]):
    """The network interface that has an IPv4 address."""

    def command(self, address: str) -> str:
        return f"ip -o -4 address show to {address}"

    def process(self, output: list[str]) -> str:
        found = parse_interface(output)
        if not found:
            raise FactProcessError("no network interface has the address that the inventory gives this host")
        return found
