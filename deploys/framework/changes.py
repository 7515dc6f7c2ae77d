"""What a run would change, or changes: in words, as diffs, and grouped by hosts. Pure."""

from __future__ import annotations

import difflib
import hashlib
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from deploys.framework.tree import LARGE_BYTES, Content, Directory, Entry, File, Link, Present

SECRET = "secret, not shown"
_KINDS = {"f": "a file", "d": "a directory", "l": "a link"}
# The rest says its kind: "install package nginx".
_IN_WORDS = {"file": "", "unit": "", "command": "", "setting": ""}
# What the mode of a file does not tell: a private key, and credentials in an address.
_CREDENTIALS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^\s/@]*:[^\s/@]+@")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Change:
    """One thing on one host. `notes` say how and why; `diff` is the lines of a unified diff."""

    kind: str  # file, link, directory, unit, package, user, setting, ...
    act: str  # make, change, replace, remove, install, start, restart, reload, ...
    name: str
    notes: tuple[str, ...] = ()
    diff: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = f"{self.act} {_IN_WORDS.get(self.kind, f'{self.kind} ')}{self.name}"
        return f"{words}: {'; '.join(self.notes)}" if self.notes else words


# --- files


def of_files(
    wanted: Mapping[str, Entry],
    changed: Iterable[str],
    seen: Mapping[str, Present],
    contents: Mapping[str, Content] | None = None,
    secrets: Iterable[str] = (),
) -> list[Change]:
    """What becomes of paths, in their order.

    :param changed: those of `wanted` that are not as wanted
    :param contents: what `to_read` names; None: no diff is asked for
    :param secrets: values of the data that nobody may see
    """
    return [_of_path(path, wanted[path], seen.get(path), contents, tuple(secrets)) for path in sorted(changed)]


def to_read(wanted: Mapping[str, Entry], changed: Iterable[str], seen: Mapping[str, Present]) -> list[str]:
    """Paths whose present contents a diff needs. None that may be a secret, and none that is too large anyway."""
    return [
        path
        for path in sorted(changed)
        if isinstance(entry := wanted[path], File)
        and (now := seen.get(path)) is not None
        and now.kind == "f"
        and now.sha256 != _sha256(entry.data)
        and not _closed(entry.mode, now.mode)
        and len(entry.data) <= LARGE_BYTES
    ]


def _of_path(
    path: str, entry: Entry, now: Present | None, contents: Mapping[str, Content] | None, secrets: tuple[str, ...]
) -> Change:
    kind = type(entry).__name__.lower()
    if isinstance(entry, Link):
        if now and now.kind == "l":
            return Change(kind, "change", path, (f"{now.target} → {entry.target}",))
        return Change(kind, "replace" if now else "make", path, (*_another_kind(now), f"to {entry.target}"))
    kind_is = "d" if isinstance(entry, Directory) else "f"
    notes = list(_permissions(entry, now if now and now.kind == kind_is else None))
    if isinstance(entry, Directory):
        return Change(kind, "change" if now else "make", path, tuple(notes))
    if now and now.kind == "f" and now.sha256 == _sha256(entry.data):
        return Change(kind, "change", path, tuple(notes))
    if now and now.kind == "f" and notes:
        notes.insert(0, "content")
    more, lines = _content(path, entry, now if now and now.kind == "f" else None, contents, secrets)
    act = "make" if now is None else "change" if now.kind == "f" else "replace"
    return Change(kind, act, path, (*_another_kind(now if act == "replace" else None), *notes, *more), lines)


_USUAL = {
    kind: {"mode": usual.mode, "owner": usual.owner, "group": usual.group}
    for kind, usual in ((File, File("")), (Directory, Directory()))
}


def _another_kind(now: Present | None) -> list[str]:
    return [f"it is {_KINDS.get(now.kind, 'something else')}"] if now else []


def _permissions(entry: File | Directory, now: Present | None) -> Iterable[str]:
    wanted = f"{entry.owner}:{entry.group}"
    if now is None:
        if entry != replace(entry, **_USUAL[type(entry)]):
            yield f"{entry.mode} {wanted}"
        return
    if now.mode != entry.mode:
        yield f"mode {now.mode} → {entry.mode}"
    if (now.owner, now.group) != (entry.owner, entry.group):
        yield f"owner {now.owner}:{now.group} → {wanted}"


def _content(
    path: str, entry: File, now: Present | None, contents: Mapping[str, Content] | None, secrets: tuple[str, ...]
) -> tuple[list[str], tuple[str, ...]]:
    """Notes on a content that changes, and its diff."""
    if _closed(entry.mode, *([now.mode] if now else [])) or _gives_away(entry.data, secrets):
        return [SECRET], ()
    if contents is None:
        return [], ()
    old = contents.get(path) if now else Content(0, b"")
    if old and _gives_away(old.data, secrets):
        return [SECRET], ()
    large = old is None or max(old.size, len(entry.data)) > LARGE_BYTES
    texts = [] if large else [_text(data) for data in (old.data, entry.data)]
    if not large and None not in texts:
        return [], diff(*texts)
    sizes = " → ".join(f"{size:,}" for size in ([old.size] if old and now else []) + [len(entry.data)])
    sums = " → ".join(each[:12] for each in ([now.sha256] if now else []) + [_sha256(entry.data)])
    return [f"{'' if large else 'binary, '}{sizes} bytes, sha256 {sums}"], ()


def _closed(*modes: str) -> bool:
    """Whether not everybody on the host may read it: then it is taken for a secret, before and afterwards."""
    return any(not int(mode, 8) & 0o004 for mode in modes)


def _gives_away(data: bytes, secrets: tuple[str, ...]) -> bool:
    text = data.decode(errors="replace")
    return bool(_CREDENTIALS.search(text)) or any(secret in text for secret in secrets)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(data: bytes) -> str | None:
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def diff(old: str, new: str) -> tuple[str, ...]:
    """A unified diff without its two lines of names. What a terminal would obey is spelt out."""
    lines = difflib.unified_diff(_lines(old), _lines(new), lineterm="")
    return tuple(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line) for line in islice(lines, 2, None))


def _lines(text: str) -> list[str]:
    if not text:
        return []
    *lines, last = text.split("\n")
    return [*lines, f"{last} (no newline at the end)"] if last else lines


# --- a whole run

Noted = Mapping[str, Sequence[Change]]
"""{host: its changes, in order}"""
Paint = Callable[[str, str], str]
"""A line and a colour, as a terminal shows it."""


def listing(operations: Iterable[tuple[str, Noted]], hosts: int, paint: Paint = lambda text, _: text) -> list[str]:
    """What each operation changes; hosts that get the same are named together.

    :param hosts: how many take part in the run
    """
    lines = []
    for name, noted in operations:
        groups = grouped(noted)
        if groups:
            lines.append(name)
        for names, found in groups:
            lines.append(f"  {said(names, hosts)}:")
            for change in found:
                lines.append(f"    {change}")
                lines += [f"      {paint(line, _COLOURS.get(line[:1], ''))}" for line in change.diff]
    return lines


_COLOURS = {"+": "green", "-": "red"}


def acts_on_units(operations: Iterable[tuple[str, Noted]], hosts: int) -> list[str]:
    """What is done to which units, on which hosts: those that get the same on the same hosts in one line."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, noted in operations:
        for host, changes in noted.items():
            for change in changes:
                if change.kind == "unit":
                    found.setdefault((change.act, change.name), []).append(host)
    units: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (act, name), names in found.items():
        units.setdefault((act, tuple(dict.fromkeys(names))), []).append(name)
    lines = []
    for act, on in sorted(units, key=lambda key: _GRAVEST.index(key[0])):
        words = f"{act} on {said(on, hosts)}: {', '.join(units[act, on])}"
        lines += textwrap.wrap(words, 110, subsequent_indent="  ", break_on_hyphens=False)
    return lines


_GRAVEST = ("stop", "restart", "reload", "disable", "start")


def grouped(noted: Noted) -> list[tuple[tuple[str, ...], list[Change]]]:
    """[(hosts, changes that all of them get)], in the order in which changes come up."""
    on: dict[Change, list[str]] = {}
    for host, changes in noted.items():
        for change in changes:
            on.setdefault(change, []).append(host)
    groups: dict[tuple[str, ...], list[Change]] = {}
    for change, names in on.items():
        groups.setdefault(tuple(dict.fromkeys(names)), []).append(change)
    return list(groups.items())


def said(names: Sequence[str], hosts: int) -> str:
    """Hosts, named: all of them where there are more than three are said so."""
    return f"all {hosts} hosts" if len(names) == hosts > 3 else ", ".join(names)
