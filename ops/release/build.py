"""`griddle release build`: this checkout's services as an immutable release.

.griddle/releases/<version>/ holds release.tar and manifest.json (the sha256 of every file in it and of the
archive); .griddle/releases/current points to what was built last. The version is the hash of what goes in, so
the same content is built once. The archive holds VERSION, services/, wheelhouse/, wheelhouse.lock (hashes of these
very wheels) and manifest.json; deploys/app/files/install-release unpacks it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from cluster import releases
from cluster.files import locked, write_durably
from cluster.paths import RELEASES, ROOT
from cluster.progress import say, step
from ops.release import wheels


def build() -> str:
    """Builds the release unless it is there, makes it current, and returns its version."""
    sources, version = releases.sources(ROOT), releases.of_checkout()
    with ExitStack() as held:
        with step("release: waiting for another build of this checkout's", quiet_seconds=1):
            held.enter_context(locked(RELEASES / ".lock"))
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
