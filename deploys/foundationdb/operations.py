"""FoundationDB's operations. What to do is decided by `status` and `config`, which are pure."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyinfra import host, logger, state
from pyinfra.api import FileUploadCommand, OperationError, StringCommand, operation

from deploys.foundationdb import config, status
from deploys.foundationdb.facts import Installation, Status, fdbcli, status_command
from deploys.foundationdb.status import Document, Health, Limits
from deploys.operations import run_checked

POLL_SECONDS = 1.0


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
    uploads = {f"/var/tmp/{package.path.name}": package for package in wanted.values()}
    for remote, package in uploads.items():
        # As the connecting user: root would need a second copy, and verifies the bytes below anyway.
        yield FileUploadCommand(str(package.path), remote, _sudo=False)
    yield StringCommand(unpack_command(version, {remote: p.sha256 for remote, p in uploads.items()}, wanted))


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
    yield StringCommand(f"install -m 664 -o {owner} -g {owner} {seed} {path}.new && mv -fT {path}.new {path}")


@operation()
def created(redundancy: str, engine: str, processes: int, seconds: int) -> Generator[StringCommand]:
    """The database exists; it is created once, and only where the cluster says that it never was.

    + redundancy: single, double or triple
    + engine: the storage engine, e.g. ssd
    + processes: how many must have joined first, so that replicas find their places at once
    + seconds: how long to wait for the processes to find each other
    """
    if status.is_created(host.get_fact(Status)):
        host.noop("the database exists")
        return
    if state.is_executing:
        document = _waited_for(
            lambda seen: status.is_created(seen) or status.can_be_created(seen, processes),
            seconds,
            lambda seen: (
                f"recovery state {status.recovery_state(seen)}, "
                f"{len(status.processes(seen))} of {processes} processes"
            ),
            "FoundationDB's processes have found each other",
        )
        if status.is_created(document):
            host.noop("the database exists")
            return
    yield StringCommand(fdbcli(f"configure new {redundancy} {engine}", seconds=60))


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
    if state.is_executing:
        _wait_for_health(limits, seconds, "health before a bounce")
        logger.info(f"{host.print_prefix}bouncing all: {len(stale)} processes run with an older configuration")
    # The first kill only fills fdbcli's list of processes.
    yield StringCommand(fdbcli("kill; kill all; sleep 2", seconds=30))
    if state.is_executing:
        _waited_for(
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


def _wait_for_health(limits: Limits, seconds: int, what: str) -> Health:
    document = _waited_for(
        lambda seen: status.judge(seen, limits).ok,
        seconds,
        lambda seen: str(status.judge(seen, limits)),
        what,
    )
    return status.judge(document, limits)


def _waited_for(good, seconds: int, describe, what: str) -> Document | None:
    """Poll the cluster's status until it is good.

    :raises OperationError: it was not within `seconds`; this ends the run and says what was seen last
    """
    start = time.monotonic()
    while True:
        document = status.parse("\n".join(run_checked(status_command(), what, timeout=60)))
        took = time.monotonic() - start
        if good(document):
            if took > 2:
                logger.info(f"{host.print_prefix}{what}: true after {took:.0f} s")
            return document
        if took > seconds:
            seen = describe(document)
            raise OperationError(f"{host.name}: {what}: not within {seconds} s; last seen: {seen}")
        time.sleep(POLL_SECONDS)
