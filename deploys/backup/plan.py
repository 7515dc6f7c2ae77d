"""What is left to do of a restore: pure, from what the database and its backups say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from deploys.backup.status import Backup, Moment, name, utc, version_at
from deploys.conductor.conduct import Plan, Step

MIB = 1024**2
GOING = ("queued", "starting", "running")


@dataclass(frozen=True)
class Restore:
    """The last restore that the database knows. state: queued, starting, running, completed, aborted; or ""."""

    state: str = ""
    url: str = ""
    version: int = 0


@dataclass(frozen=True)
class RestoreSeen:
    """Everything that a plan is made of.

    :param backup: the continuous backup
    :param reach: {URL of a backup: the versions from and to which it can be restored}, the oldest first
    :param notes: which version belongs to which time
    :param version: the database's own, now
    :param empty: it holds no key; false while it is locked, for then nobody can say
    :param stored_bytes: keys and values in it
    :param submitted: version and URL of a restore whose run has not come to its end
    """

    available: bool
    locked: bool = False
    empty: bool = False
    stored_bytes: int = 0
    version: int = 0
    backup: Backup = field(default_factory=Backup)
    reach: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[Moment, ...] = ()
    restore: Restore = Restore()
    submitted: tuple[int, str] | None = None


@dataclass(frozen=True)
class RestoreTarget:
    """What the operator asked for: a version or a time (seconds since 1970), and whether data may be destroyed."""

    version: int | None = None
    at: int | None = None
    replace: bool = False


def plan(seen: RestoreSeen, target: RestoreTarget) -> Plan:
    """The steps that are left, or the reasons why none may be taken."""
    found = source(seen, target)
    refusals = tuple(_refusals(seen, target, found))
    return Plan(refusals=refusals) if refusals else Plan(steps=tuple(_steps(seen, found)))


def source(seen: RestoreSeen, target: RestoreTarget) -> Moment | None:
    """The backup to restore from, and the version; None if no backup has it."""
    if target.at is not None:
        moment = version_at(list(seen.notes), target.at)
        if moment is None or moment.url not in seen.reach:
            return None
        first, last = seen.reach[moment.url]
        return Moment(moment.at, min(max(moment.version, first), last), moment.url)
    holding = [url for url, (first, last) in seen.reach.items() if first <= target.version <= last]
    # A database that was created anew counts its versions anew, too: the younger backup is meant.
    return Moment(0, target.version, holding[-1]) if holding else None


def _is_last(seen: RestoreSeen, found: Moment) -> bool:
    return (seen.restore.url, seen.restore.version) == (found.url, found.version)


def _is_going(seen: RestoreSeen, found: Moment) -> bool:
    return _is_last(seen, found) and seen.restore.state in GOING


def _is_done(seen: RestoreSeen, found: Moment) -> bool:
    """It was restored, and whoever did so was interrupted before the next backup was begun."""
    mine = seen.submitted == (found.version, found.url)
    return mine and _is_last(seen, found) and seen.restore.state == "completed"


def _refusals(seen: RestoreSeen, target: RestoreTarget, found: Moment | None) -> Iterator[str]:
    if not seen.available:
        yield "the database is not available: ./griddle fdb status"
        return
    if found is None:
        there = "; ".join(f"{name(url)}: {first} to {last}" for url, (first, last) in seen.reach.items())
        times = f"; times are known from {utc(seen.notes[0].at)} to {utc(seen.notes[-1].at)}" if seen.notes else ""
        yield f"no backup reaches that; there are the versions {there or 'of none'}{times}"
        return
    if _is_going(seen, found) or _is_done(seen, found):
        return
    if seen.restore.state in GOING:
        yield f"another restore is under way, to version {seen.restore.version} of {seen.restore.url}"
    elif seen.locked:
        yield "the database is locked, and not by a restore: `unlock` in fdbcli takes the lock's id"
    elif not seen.empty and not target.replace:
        yield (
            f"the database is not empty ({seen.stored_bytes / MIB:.1f} MiB of keys and values), and a restore "
            f"needs it empty: --replace destroys what is in it, and what was written after version {found.version}"
        )


def _steps(seen: RestoreSeen, found: Moment) -> Iterator[Step]:
    if not _is_done(seen, found):
        if not _is_going(seen, found):
            yield from _submit(seen, found)
        yield Step(
            "wait until it is restored; the database is locked meanwhile", "wait", (found.version, found.url)
        )
    yield Step("begin the next continuous backup", "begin_next")


def _submit(seen: RestoreSeen, found: Moment) -> Iterator[Step]:
    if seen.backup.running:
        yield Step(f"end the running backup; what it has written stays in {seen.backup.url}", "end")
    if seen.version <= found.version:
        # Keys that end with a place in the order of commits must not be written before the restored ones.
        yield Step(f"the database's version goes beyond {found.version}", "advance", (found.version,))
    what = "nothing" if seen.empty else f"all that is in the database ({seen.stored_bytes / MIB:.1f} MiB)"
    yield Step(
        f"destroy {what}, and restore version {found.version} of {found.url}",
        "replace_data",
        (found.version, found.url),
    )
