"""What a value of the data must be: in words for the operator, and as a test. Pure.

A form takes any value of any type: what it does not know does not fit.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


SHOWN_CHARACTERS = 80


def shown(value: Any) -> str:
    """A value of any type in an error: on one line, and not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an int of more digits than Python spells out, or whatever somebody's class does
        text = f"(a long {type(value).__name__})" if isinstance(value, int) else f"(a {type(value).__name__})"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


@dataclass(frozen=True)
class Fault:
    """A value that does not fit. `where`: its place within a list or mapping, such as "[2]"; else ""."""

    where: str
    value: Any
    words: str


@dataclass(frozen=True)
class Form:
    """`words` ends the sentence "it must be ..."; `fits` may raise for no."""

    words: str
    fits: Callable[[Any], bool]

    def faults(self, value: Any, where: str = "") -> Iterator[Fault]:
        """Nothing where the value fits."""
        try:
            fits = self.fits(value)
        except Exception:  # ValueError, or whatever a value's own class does
            fits = False
        if not fits:
            yield Fault(where, value, self.words)


@dataclass(frozen=True)
class ListOf:
    """A list, of which each item has the form."""

    item: Form
    words: str
    least: int = 0

    def faults(self, value: Any, where: str = "") -> Iterator[Fault]:
        if not isinstance(value, list | tuple) or len(value) < self.least:
            yield Fault(where, value, self.words)
            return
        for number, item in enumerate(value):
            yield from self.item.faults(item, f"{where}[{number}]")


@dataclass(frozen=True)
class MapOf:
    """A mapping, of which each key and each value has its form."""

    key: Form
    value: Form
    words: str

    def faults(self, value: Any, where: str = "") -> Iterator[Fault]:
        if not isinstance(value, Mapping):
            yield Fault(where, value, self.words)
            return
        for key, item in value.items():
            yield from self.key.faults(key, f"{where}, a key")
            yield from self.value.faults(item, f"{where}[{shown(key)}]")


AnyForm = Form | ListOf | MapOf


def whole(low: int, high: int, what: str = "a whole number") -> Form:
    """An int from `low` to `high`; True is none."""
    return Form(f"{what} from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def share() -> Form:
    """A number between 0 and 1, neither of them."""
    return Form("a number between 0 and 1", lambda value: type(value) in (int, float) and 0 < value < 1)


def one_of(*choices: str | float) -> Form:
    """One of these, of the same type."""
    kinds = {kind for choice in choices for kind in ((str,) if isinstance(choice, str) else (int, float))}
    return Form(f"one of {', '.join(map(str, choices))}", lambda value: type(value) in kinds and value in choices)


def text(pattern: str, words: str) -> Form:
    """Text that the whole of the pattern matches."""
    compiled = re.compile(pattern, re.ASCII)
    return Form(words, lambda value: isinstance(value, str) and bool(compiled.fullmatch(value)))


def or_empty(form: Form, meaning: str) -> Form:
    """The same, or "", which means something of its own."""
    return Form(f"{form.words}; or '': {meaning}", lambda value: value == "" or not [*form.faults(value)])


def or_none(form: AnyForm, meaning: str = "") -> Form:
    """The same, or None, as if it was not set; `meaning`: what holds then."""
    words = f"{form.words}; or None" + (f": {meaning}" if meaning else "")
    return Form(words, lambda value: value is None or not [*form.faults(value)])


def _address(value: Any) -> bool:
    """One that other hosts can reach."""
    if not isinstance(value, str):
        return False
    it = ipaddress.IPv4Address(value)
    return not (it.is_loopback or it.is_multicast or it.is_reserved or value.startswith("0."))


def _network(value: Any) -> bool:
    return isinstance(value, str) and bool(ipaddress.ip_network(value))


def _url(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
        return False
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0


def _public_key(value: Any) -> bool:
    """A line of authorized_keys: its base64 part says its type again, and is whole."""
    if not isinstance(value, str) or re.search(r"[\x00-\x1f\x7f]", value):
        return False
    found = re.fullmatch(rf"(?:.+ )?({'|'.join(map(re.escape, KEY_TYPES))}) ([A-Za-z0-9+/]+=*)(?: .*)?", value)
    if not found:
        return False
    blob, fields = base64.b64decode(found[2], validate=True), []
    while blob:  # fields, each after its length in four bytes
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            return False
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return len(fields) > 1 and fields[0] == found[1].encode()


PORT = whole(1, 65535, "a port")
YES_OR_NO = Form("True or False", lambda value: type(value) is bool)
LINE = text(r"[^\x00-\x1f\x7f]*", "text of one line")
NAME = text(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "a name of letters, digits, - and _")
HOST_NAME = text(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", "a host name of letters, digits, - and .")
# sudo passes over files with a dot in their names, and the user's rule is in one.
USER = text(r"[a-z_][a-z0-9_-]{0,31}", "a user's name of small letters, digits, - and _")
FILE_NAME = text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", "a file's name without a slash")
PATH = text(r"/[^\x00-\x20\x7f]*", "an absolute path without spaces")
ADDRESS = Form("an IPv4 address of a host: no loopback, multicast or reserved one", _address)
NETWORK = Form("a network such as 10.0.0.0/8, without host bits, or an address", _network)
URL = Form("a URL of http or https", _url)
PUBLIC_KEY = Form("a whole public key, as in id_ed25519.pub", _public_key)
SIZE = text(r"[1-9][0-9]{0,8}[KMGT]i?B", "a size such as 512MiB or 8GiB")
JOURNAL_SIZE = text(r"[1-9][0-9]{0,8}[KMGT]", "a size such as 512M or 2G")
TIME = text(r"[1-9][0-9]{0,4}(min|m|h|d|w)( ?[1-9][0-9]{0,4}(min|m|h|d|w))*", "a time such as 30min, 1h or 1d")
RETENTION = text(r"[1-9][0-9]{0,3}[dwy]", "a time such as 30d, 8w or 1y")

COUNT = whole(1, 1000)
SECONDS = whole(1, 86400)


def networks(least: int) -> ListOf:
    """A list of networks, at least so many."""
    return ListOf(
        NETWORK, "a list of networks such as ['10.0.0.0/8']" + (", at least one" if least else ""), least
    )


_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}


def size_bytes(value: str) -> int:
    """Bytes of a SIZE: 1KB are 1000, 1KiB are 1024."""
    number, unit = re.fullmatch(r"(\d+)(\w+)", value).groups()
    return int(number) * (1024 if "i" in unit else 1000) ** _UNITS[unit[0]]
