"""`fdbbackup status --json`, and the times of the upkeep, read: pure."""

from __future__ import annotations

import json
import posixpath
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deploys.backup import object_store


@dataclass(frozen=True)
class Backup:
    """The continuous backup. Versions are FoundationDB's; 0 where there is none.

    :param url: its own directory below `fdb_backup_url`
    :param restorable: the newest version to which it can be restored
    :param at: the time of that version, seconds since 1970, as the database remembers it
    :param lag_seconds: how far that version is behind the database, by their versions: no clock is asked;
        None where FoundationDB does not say
    """

    running: bool = False
    url: str = ""
    restorable: int = 0
    at: int = 0
    lag_seconds: float | None = None


@dataclass(frozen=True)
class Moment:
    """The version that the backup at `url` had reached at a time (seconds since 1970)."""

    at: int
    version: int
    url: str


def utc(at: int) -> str:
    """A time, seconds since 1970, for people."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def parse(text: str) -> Backup:
    """The document; what cannot be read is no backup."""
    try:
        document: dict[str, Any] = json.loads(text[text.index("{") :])
    except ValueError:
        return Backup()
    point = document.get("LatestRestorablePoint") or {}
    return Backup(
        running=bool(document.get("Status", {}).get("Running")),
        url=document.get("DestinationURL", ""),
        restorable=int(point.get("Version", 0)) if document.get("Restorable") else 0,
        at=int(point.get("EpochSeconds", 0)),
        lag_seconds=float(point["LagSeconds"]) if "LagSeconds" in point else None,
    )


def goes_to(url: str, wanted: str) -> bool:
    """Whether a backup at `url` is one to `wanted`, the data's URL: below it each has a place of its own."""
    if to := object_store.place(wanted):
        return object_store.listed(url, to) == url
    directory = posixpath.dirname(posixpath.normpath(url.removeprefix("file://")))
    return url.startswith("file://") and directory == posixpath.normpath(wanted.removeprefix("file://"))


def name(url: str) -> str:
    """A backup's own name, by the time of its begin."""
    return url.partition("?")[0].rpartition("/")[2]


def urls(listed: Iterable[str], known: Iterable[str], wanted: str) -> list[str]:
    """Backups that may be restored, the oldest first.

    :param listed: what `fdbbackup list` has printed
    :param known: URLs of others, which may be anywhere
    :param wanted: the data's URL
    """
    found, to = [], object_store.place(wanted)
    for line in filter(None, map(str.strip, listed)):
        found.append(object_store.listed(line, to) if to else line)
    return sorted({url for url in [*found, *known] if url}, key=name)


def moments(lines: Iterable[str]) -> list[Moment]:
    """The upkeep's notes, in the order of time."""
    found = []
    for line in lines:
        at, version, url = [*line.split(), "", "", ""][:3]
        if at.isdigit() and version.isdigit() and url:
            found.append(Moment(int(at), int(version), url))
    return sorted(found, key=lambda each: (each.at, each.version))


def version_at(notes: list[Moment], at: int) -> Moment | None:
    """What to restore for a time: the version then, by the notes around it; None if no backup reaches back to
    it, or up to it.
    """
    before = [each for each in notes if each.at <= at]
    after = [each for each in notes if each.at >= at]
    if not before or not after:
        return None
    last, first = before[-1], after[0]
    if last.url != first.url or last.at == first.at:
        return Moment(at, last.version, last.url)
    share = (at - last.at) / (first.at - last.at)
    return Moment(at, last.version + int(share * (first.version - last.version)), last.url)
