"""`griddle release build`: this checkout's services as an immutable release.

.griddle/releases/<version>/ holds release.tar and manifest.json (the sha256 of every file in it and of the
archive); .griddle/releases/current points to what was built last. The version is the hash of what goes in, so
the same content is built once. The archive holds VERSION, services/, wheelhouse/, wheelhouse.lock (hashes of these
very wheels) and manifest.json; deploys/app/files/install-release unpacks it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from cluster.files import write_durably
from cluster.paths import RELEASES, ROOT
from cluster.progress import say, step
from ops.release.build import wheels

_LAYOUT = 1  # of the archive; part of the version


def build() -> str:
    """Builds the release unless it is there, makes it current, and returns its version."""
    sources, version = _sources(ROOT), of_checkout()
    RELEASES.mkdir(parents=True, exist_ok=True)
    with (RELEASES / ".lock").open("w") as lock:
        with step("release: waiting for another build of this checkout's", quiet_seconds=1):
            fcntl.flock(lock, fcntl.LOCK_EX)
        return _built(sources, version)


def _built(sources: Mapping[str, bytes], version: str) -> str:
    directory = RELEASES / version
    if (directory / "manifest.json").is_file():
        _point_current_to(version)
        say(f"release {version}: built already, nothing has changed since")
        return version
    wheelhouse = wheels.wheels(ROOT)
    contents = {
        **sources,
        **{f"wheelhouse/{path.name}": path.read_bytes() for path in sorted(wheelhouse.glob("*.whl"))},
        "VERSION": f"{version}\n".encode(),
    }
    contents["wheelhouse.lock"] = wheel_lock(contents).encode()
    manifest = {"version": version, "files": {name: _sha256(data) for name, data in sorted(contents.items())}}
    archive = tar({**contents, "manifest.json": _json(manifest)})
    fresh = RELEASES / f".{version}.new"
    shutil.rmtree(fresh, ignore_errors=True)  # of a build that was interrupted
    fresh.mkdir(parents=True)
    write_durably(fresh / "release.tar", archive, 0o644)
    write_durably(fresh / "manifest.json", _json({**manifest, "archive_sha256": _sha256(archive)}), 0o644)
    fresh.rename(directory)
    _point_current_to(version)
    say(f"release {version}: {len(contents)} files, {len(archive) / 1e6:.1f} MB, in {directory}")
    return version


def of_checkout() -> str:
    """The version that a build of this checkout, as it is now, has."""
    return version_of(_sources(ROOT), wheels.key(ROOT))


def version_of(sources: Mapping[str, bytes], wheels_key: str) -> str:
    """ "r-" and 12 hexadecimal digits of the hash of everything that the release is made from."""
    digest = hashlib.sha256(f"{_LAYOUT}\0{wheels_key}\0".encode())
    for name, data in sorted(sources.items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return f"r-{digest.hexdigest()[:12]}"


def wheel_lock(contents: Mapping[str, bytes]) -> str:
    """A requirements file with the hashes of the wheels in `contents` (path → content)."""
    lines = []
    for name, data in sorted(contents.items()):
        if name.endswith(".whl"):
            distribution, version = Path(name).name.split("-")[:2]
            lines.append(f"{distribution}=={version} --hash=sha256:{_sha256(data)}\n")
    return "".join(lines)


def tar(contents: Mapping[str, bytes]) -> bytes:
    """An archive that depends on names and contents only."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(contents.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _sources(checkout: Path) -> dict[str, bytes]:
    paths = sorted((checkout / "services").rglob("*.py"))
    return {str(path.relative_to(checkout)): path.read_bytes() for path in paths}


def _point_current_to(version: str) -> None:
    link, fresh = RELEASES / "current", RELEASES / f".current.{os.getpid()}"
    if link.is_symlink() and link.readlink().name == version:
        return
    fresh.symlink_to(version)
    fresh.replace(link)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(document: object) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"
