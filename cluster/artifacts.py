"""FoundationDB's packages: from a version number to two verified local files, or one line of why not."""

import contextlib
import fcntl
import functools
import hashlib
import http.client
import os
import re
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cluster.errors import UserError
from cluster.paths import ROOT

CACHE = Path("~/.cache/griddle").expanduser()

PACKAGES = ("foundationdb-clients", "foundationdb-server")
ARCHITECTURE = "amd64"
VERSION = re.compile(r"\d+\.\d+\.\d+")

PROBE_SECONDS = 4.0
"""Longest wait for a first answer from the vendor: a machine without network must learn it quickly."""
STALL_SECONDS = 20.0
"""A download that brings nothing for this long is given up; the next attempt resumes it."""
DOWNLOAD_SECONDS = 900.0
CHUNK_BYTES = 1 << 20


class ArtifactError(UserError):
    """A package that cannot be had, or must not be used."""


class ChecksumError(ArtifactError):
    """A package whose bytes are not the ones that were pinned."""


class Unreachable(ArtifactError):
    """The vendor's release page could not be reached."""


@dataclass(frozen=True)
class Package:
    """A verified file, and its hex digest."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Artifacts:
    """Both packages of one FoundationDB version, verified. `source` says where they came from."""

    version: str
    clients: Path
    server: Path
    clients_sha256: str
    server_sha256: str
    source: str


@dataclass(frozen=True)
class Pins:
    """The vendor's address pattern and the checksums this project pins (artifacts.toml)."""

    url: str
    sha256: dict[str, str]


@functools.cache
def pins(path: Path = ROOT / "artifacts.toml") -> Pins:
    """Read the pins; raises ArtifactError where the file is not what it should be."""
    try:
        table = tomllib.loads(path.read_text())["foundationdb"]
        return Pins(url=table["url"], sha256=dict(table["sha256"]))
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ArtifactError(f"{path}: not a readable list of artifacts ({error!r})") from None


def file_name(package: str, version: str) -> str:
    """As the vendor names it."""
    return f"{package}_{version}-1_{ARCHITECTURE}.deb"


def default_version() -> str:
    """The version that the inventories ask for (`fdb_version` in inventory/group_data/all.py)."""
    path = ROOT / "inventory" / "group_data" / "all.py"
    text = path.read_text() if path.exists() else ""
    found = re.search(r'^fdb_version\s*=\s*"([^"]+)"', text, re.MULTILINE)
    if not found:
        raise ArtifactError(f'{path}: no line fdb_version = "<version>"')
    return found[1]


def artifact_directory() -> Path:
    """The operator's own directory of packages: GRIDDLE_ARTIFACTS, else ~/.cache/griddle/artifacts."""
    named = os.environ.get("GRIDDLE_ARTIFACTS")
    if not named:
        return CACHE / "artifacts"
    directory = Path(named).expanduser()
    if not directory.is_dir():
        raise ArtifactError(f"GRIDDLE_ARTIFACTS names {directory}, which is not a directory")
    return directory


def available() -> list[str]:
    """Versions whose packages lie in the operator's own directory (not verified), oldest first."""
    directory = artifact_directory()
    return _complete(path.name for path in directory.glob("foundationdb-*.deb")) if directory.is_dir() else []


def resolve(
    version: str,
    *,
    download: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Artifacts:
    """Both packages of `version`, verified: the operator's own directory first, then the vendor's release.

    Raises ArtifactError (one line). `say` receives one line per file that is downloaded.
    """
    if not VERSION.fullmatch(version):
        raise ArtifactError(f"FoundationDB version {version!r} is not of the form 7.3.77")
    names = [file_name(package, version) for package in PACKAGES]
    directory = artifact_directory()
    present = [name for name in names if (directory / name).is_file()]
    if len(present) == len(names):
        sums = {**pins().sha256, **_checksums(directory / "SHA256SUMS")}
        packages = [_verified(directory / name, sums.get(name)) for name in names]
        return _artifacts(version, packages, source=str(directory))
    if present:
        missing = next(name for name in names if name not in present)
        raise ArtifactError(f"{directory} has {present[0]} but not {missing}: both are needed")
    downloads = CACHE / "downloads"
    try:
        packages = [_downloaded(downloads, name, version, download, say) for name in names]
    except ArtifactError as error:
        there = ", ".join(available()) or "none"
        where = f"{directory} (there: {there})"
        raise type(error)(f"FoundationDB {version} is not in {where} and {error}") from None
    return _artifacts(version, packages, source=pins().url.format(version=version, file=""))


def auto_store(version: str | None = None, say: Callable[[str], None] = lambda line: None) -> tuple[str, str]:
    """The store for `--store auto` and the line that says why: ("fdb" | "etcd", reason).

    A package that is there but fails its checksum is an error, not a reason to fall back.
    """
    version = version or default_version()
    try:
        found = resolve(version, say=say)
    except ChecksumError:
        raise
    except ArtifactError as error:
        return "etcd", f"running on the embedded etcd engine, without FoundationDB hosts: {error}"
    return "fdb", f"FoundationDB {version} from {found.source}"


def _artifacts(version: str, packages: list[Package], source: str) -> Artifacts:
    clients, server = packages
    return Artifacts(version, clients.path, server.path, clients.sha256, server.sha256, source)


def _complete(names: Iterable[str]) -> list[str]:
    """Versions for which `names` holds the file of every package."""
    there = set(names)
    found = {match[1] for name in there if (match := re.fullmatch(r"[a-z-]+_([\d.]+)-1_\w+\.deb", name))}
    whole = [v for v in found if all(file_name(package, v) in there for package in PACKAGES)]
    return sorted(whole, key=lambda v: [int(part) for part in v.split(".")])


def _checksums(path: Path) -> dict[str, str]:
    """A SHA256SUMS file as {file name: hex digest}; an absent file is an empty one."""
    sums = {}
    with contextlib.suppress(FileNotFoundError):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip():
                continue
            match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(\S+)", line.rstrip())
            if not match:
                raise ArtifactError(f"{path}, line {number}: not '<sha256>  <file name>'")
            sums[match[2]] = match[1].lower()
    return sums


def _verified(path: Path, expected: str | None) -> Package:
    if not expected:
        sums = path.parent / "SHA256SUMS"
        raise ChecksumError(f"{path}: no checksum for it in {sums} or artifacts.toml; refused")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ChecksumError(f"{path}: wrong checksum, refused: expected {expected}, found {found}")
    return Package(path, found)


def _downloaded(downloads: Path, name: str, version: str, download: bool, say: Callable[[str], None]) -> Package:
    """One package out of the download cache, fetched first where it is not there yet."""
    expected = pins().sha256.get(name)
    if not expected:
        raise ArtifactError(f"is not downloaded: no checksum for {name} in artifacts.toml")
    path = downloads / name
    if not path.is_file():
        if not download:
            raise ArtifactError(f"was not downloaded before as {path}")
        url = pins().url.format(version=version, file=name)
        _probe(url)
        say(f"downloading {url}")
        _fetch(url, path, expected)
    return _verified(path, expected)


def _request(url: str, offset: int = 0, method: str = "GET") -> urllib.request.Request:
    headers = {"User-Agent": "griddle"} | ({"Range": f"bytes={offset}-"} if offset else {})
    return urllib.request.Request(url, headers=headers, method=method)


def _probe(url: str) -> None:
    """Raise Unreachable unless the address answers in time.

    In a thread of its own: urllib's time limit covers neither name resolution nor a chain of redirects.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(_request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
            outcome.append(None)
        except (OSError, http.client.HTTPException) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if not outcome:
        raise Unreachable(f"{url} gave no answer within {PROBE_SECONDS:g} s")
    if outcome[0] is not None:
        raise Unreachable(f"{url} cannot be reached: {_reason(outcome[0])}")


def _fetch(url: str, path: Path, expected: str) -> None:
    """Download to `path`, atomically; a partial file from an earlier attempt is continued."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another checkout may be fetching the same file
        if path.exists():
            partial.unlink(missing_ok=True)
            return
        try:
            _receive(url, file)
        except urllib.error.HTTPError as error:
            # A range that starts at the end of the file: it was complete already, and the checksum decides.
            if not (error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and file.tell()):
                raise Unreachable(f"{url} cannot be had: {_reason(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"its download broke off ({_reason(error)}); run again to resume it") from None
        try:
            _verified(partial, expected)
        except ChecksumError:
            partial.unlink()
            raise
        partial.replace(path)


def _receive(url: str, file: BinaryIO) -> None:
    """Append the rest of the resource to `file`, or the whole where the server knows no ranges."""
    end = time.monotonic() + DOWNLOAD_SECONDS
    with urllib.request.urlopen(_request(url, file.tell()), timeout=STALL_SECONDS) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            file.truncate(0)
        due = int(answer.headers.get("Content-Length", 0))
        while chunk := answer.read(CHUNK_BYTES):
            file.write(chunk)
            due -= len(chunk)
            if time.monotonic() > end:
                raise TimeoutError(f"not complete after {DOWNLOAD_SECONDS:g} s")
        file.flush()
        os.fsync(file.fileno())
        if due > 0:
            raise ConnectionError(f"{due} bytes are missing")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
