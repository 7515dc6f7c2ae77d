"""FoundationDB's operations. What to do is decided by `status` and `config`, which are pure."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyinfra import host, inventory, logger, state
from pyinfra.api import FileUploadCommand, OperationError, StringCommand, operation

from cluster.model import short_name
from deploys.foundationdb import config, status
from deploys.foundationdb.facts import STATUS_SECONDS, Installation, Status, fdbcli, status_command
from deploys.foundationdb.status import Document, Limits
from deploys.framework import preview
from deploys.framework.changes import Change
from deploys.framework.remote import fact, run
from deploys.framework.shell import FORGET_OLD_UPLOADS, exclusive, upload_path

POLL_SECONDS = 1.0
CREATE_SECONDS = 60
# A database that serves no reads answers with the client's part alone, after 30 s (StatusClient.actor.cpp).
PATIENT_STATUS_SECONDS = 40


@dataclass(frozen=True)
class Package:
    """A Debian package on the operator's machine, and the checksum that was verified there."""

    name: str
    path: Path
    sha256: str


@operation()
def unpacked(version: str, packages: Iterable[Package]) -> Generator[StringCommand | FileUploadCommand]:
    """A version's packages are unpacked beside other versions, and run on this host.

    + version: FoundationDB's version
    + packages: what must be unpacked into its directory

    The vendor's packages are not installed: their scripts start a database of their own on every installation
    and upgrade, and only one version could be there at a time (apple/foundationdb #2021, #382).
    """
    wanted = {package.name: package for package in packages}
    seen = host.get_fact(Installation)
    if seen.releases.get(version, frozenset()) >= wanted.keys() and seen.has_user:
        host.noop(f"{version} is unpacked")
        return
    preview.note(*(Change("package", "unpack", f"{name} {version}") for name in sorted(wanted)))
    uploads = {upload_path(package.path): package for package in wanted.values()}
    for remote, package in uploads.items():
        # As the connecting user: root would need a second copy, and verifies the bytes below anyway.
        yield FileUploadCommand(str(package.path), remote, _sudo=False)
    unpack = unpack_command(version, {remote: p.sha256 for remote, p in uploads.items()}, wanted)
    yield StringCommand(exclusive(unpack))


def unpack_command(version: str, uploads: Mapping[str, str], names: Iterable[str]) -> str:
    """A shell script that verifies packages, unpacks them and proves that the binaries run here.

    :param uploads: {file: sha256}
    :param names: the packages' names, recorded in the release's directory
    """
    target = config.release(version)
    work = f"{config.RELEASES}/.{version}"
    files = " ".join(shlex.quote(path) for path in uploads)
    sums = "".join(f"{sha256}  {path}\n" for path, sha256 in uploads.items())
    return "\n".join(
        [
            "set -eu; umask 022",
            # It may take its time: a database and its clients are at work here. Where the kernel shares a core
            # between sessions first (sched(7), autogroup), a process's own priority says nothing to others.
            "renice -n 19 -p $$ >/dev/null; ionice -c 3 -p $$ || true",
            "{ echo 10 > /proc/self/autogroup; } 2>/dev/null || true",
            FORGET_OLD_UPLOADS,
            f"trap 'rm -rf {work} {files}' EXIT",
            "getent passwd foundationdb >/dev/null || useradd --system --user-group --no-create-home "
            f"--home-dir {config.DATA} --shell /usr/sbin/nologin foundationdb",
            f"printf %s {shlex.quote(sums)} | sha256sum --check --quiet",
            f"rm -rf {work}; mkdir -p {work}/root",
            f'for package in {files}; do dpkg-deb --extract "$package" {work}/root; done',
            f"mv {work}/root/usr {work}/release",
            # A build for newer processors than this host's would only fail once the database depends on it.
            f"for binary in {work}/release/bin/fdbcli {work}/release/sbin/fdbserver; do",
            '  [ ! -e "$binary" ] || "$binary" --version >/dev/null; done',
            # By these a host tells a release that somebody, or a loss of power, has left half there (facts.WHOLE).
            f"(cd {work}/release && find . -type f -exec stat -c '%s %n' {{}} + >../sizes && mv ../sizes .)",
            f"echo {' '.join(sorted(names))} > {work}/release/packages",
            f"rm -rf {target}.old; [ ! -e {target} ] || mv -T {target} {target}.old",
            f"mv -T {work}/release {target}; rm -rf {target}.old",
        ]
    )


@operation()
def seeded(path: str, seed: str, key: str, owner: str) -> Generator[StringCommand]:
    """A client's run-time cluster file exists and belongs to the cluster.

    + path: the run-time file
    + seed: the seed file on the host
    + key: description:ID of the cluster
    + owner: user and group that rewrite it when coordinators change

    A file of the same cluster is the client's own, whatever coordinators it names.
    """
    seen = host.get_fact(Installation, cluster_file=path, seed=seed)
    if seen.cluster_file.partition("@")[0] == key:
        host.noop("the client has its cluster file")
        return
    preview.note(Change("file", "replace" if seen.cluster_file else "make", path, (f"from {seed}",)))
    yield StringCommand(f"install -m 664 -o {owner} -g {owner} {seed} {path}.new && mv -fT {path}.new {path}")


@operation()
def created(redundancy: str, engine: str, members: Iterable[str]) -> Generator[StringCommand]:
    """The database exists; it is created once, and only where no host has ever been part of one.

    + redundancy: single, double or triple
    + engine: the storage engine, e.g. ssd
    + members: names of all FoundationDB hosts

    The recovery state configuration_never_created would say the same, but `status json` of 7.3 cannot tell it:
    as long as a database does not serve reads, the cluster controller waits for one without a time limit
    (getIdmpKeyStatus in fdbserver/Status.actor.cpp). So the hosts' own files are asked, and then fdbcli, which
    creates nothing where a database exists.
    """
    names = set(members)
    hosts = [member for member in inventory if short_name(member.name) in names]
    if len(hosts) != len(names):
        raise OperationError(f"{host.name}: not every FoundationDB host is in reach, so none is created")
    if any(fact(member, Installation).has_database for member in hosts):
        host.noop("the database exists")
        return
    preview.note(Change("command", "create", f"a {redundancy} {engine} database"))
    yield StringCommand(create_command(redundancy, engine))


def create_command(redundancy: str, engine: str) -> str:
    """A shell command that creates the database, or finds that it exists."""
    configure = fdbcli(f"configure new {redundancy} {engine}", seconds=CREATE_SECONDS)
    return (
        f'seen=$({configure} 2>&1) || case "$seen" in *"already exists"*) ;; '
        '*) echo "the database was not created: $seen" >&2; exit 1 ;; esac'
    )


@operation()
def running_as_configured(
    wanted: Mapping[str, frozenset[str]], limits: Limits, seconds: int
) -> Generator[StringCommand]:
    """Every process runs with its configured command line; one bounce of all of them makes it so.

    + wanted: {address:port: words of the command line}
    + limits: health that is required before the bounce
    + seconds: how long to wait for that health, and then for the processes to be back

    The vendor's advice for a patch version or a parameter is one bounce: each process restarted on its own
    costs a recovery (apple/foundationdb #3739), and patch versions are not meant to run beside each other.
    """
    stale = status.stale(host.get_fact(Status), wanted)
    if not stale:
        host.noop("all processes run as configured")
        return
    why = f"{len(stale)} of them run with an older configuration"
    preview.note(Change("unit", "restart", f"all {len(wanted)} FoundationDB processes, at once", (why,)))
    if state.is_executing:
        _wait_for_health(limits, seconds, "health before a bounce")
        logger.info(f"{host.print_prefix}bouncing all: {len(stale)} processes run with an older configuration")
    # The first kill only fills fdbcli's list of processes.
    yield StringCommand(fdbcli("kill; kill all; sleep 2", seconds=30))
    if state.is_executing:
        _wait_for(
            lambda seen: status.is_available(seen) and not status.stale(seen, wanted),
            seconds,
            lambda seen: f"available: {status.is_available(seen)}, still as before: {status.stale(seen, wanted)}",
            "all processes are back with the new configuration",
        )


@operation()
def healthy(limits: Limits, seconds: int) -> Generator[StringCommand]:
    """Gate: every health gate of the cluster is green.

    + limits: what healthy means
    + seconds: how long to wait
    """
    host.noop("gate")
    if state.is_executing:
        _wait_for_health(limits, seconds, "FoundationDB is healthy")
    return
    yield


def _wait_for_health(limits: Limits, seconds: int, what: str) -> None:
    _wait_for(
        lambda seen: status.judge(seen, limits).ok,
        seconds,
        lambda seen: str(status.judge(seen, limits)),
        what,
    )


def _wait_for(
    good: Callable[[Document | None], bool],
    seconds: int,
    describe: Callable[[Document | None], str],
    what: str,
) -> None:
    """Poll the cluster's status until it is good.

    :raises OperationError: it was not within `seconds`; this ends the run and says what was seen last
    """
    start = time.monotonic()
    while not good(_look(what)):
        if time.monotonic() - start > seconds:
            seen = describe(_look(what, PATIENT_STATUS_SECONDS))
            raise OperationError(f"{host.name}: {what}: not within {seconds} s; last seen: {seen}")
        time.sleep(POLL_SECONDS)
    if (took := time.monotonic() - start) > 2:
        logger.info(f"{host.print_prefix}{what}: true after {took:.0f} s")


def _look(what: str, seconds: int = STATUS_SECONDS) -> Document | None:
    return status.parse("\n".join(run(host, status_command(seconds=seconds), what, seconds + 30)))
