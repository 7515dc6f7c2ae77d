"""Releases: what names one, and how built ones lie on the operator's machine."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import UserError
from cluster.paths import RELEASES, ROOT

_LAYOUT = 1  # of the archive; part of the version
SERVICE, BUILD = "requirements/service.lock", "requirements/build.lock"
RECIPE = "requirements/build-wheels"


def of_checkout() -> str:
    """The version that a build of this checkout, as it is now, has."""
    return _version(sources(ROOT), wheels_key(ROOT))


def _version(programs: Mapping[str, bytes], wheels: str) -> str:
    """ "r-" and 12 hexadecimal digits of the hash of everything that the release is made from."""
    digest = hashlib.sha256(f"{_LAYOUT}\0{wheels}\0".encode())
    for path, data in sorted(programs.items()):
        digest.update(f"{path}\0{len(data)}\0".encode())
        digest.update(data)
    return f"r-{digest.hexdigest()[:12]}"


def sources(checkout: Path) -> dict[str, bytes]:
    """{path: content} of the services' programs."""
    paths = sorted((checkout / "services").rglob("*.py"))
    return {str(path.relative_to(checkout)): path.read_bytes() for path in paths}


def wheels_key(checkout: Path) -> str:
    """The hash of locks, recipe and architecture."""
    digest = hashlib.sha256(f"{platform.machine()}\0".encode())
    for name in (RECIPE, SERVICE, BUILD):
        digest.update((checkout / name).read_bytes())
    return digest.hexdigest()[:16]


def resolve(version: str) -> Path:
    """The directory of a built release; ``current`` is the one that was built last.

    :raises UserError: there is no such release
    """
    directory = RELEASES / version
    if not (directory / "manifest.json").is_file():
        how = (
            "run ./griddle release build"
            if version == "current"
            else "build it from the checkout that it was made of, or copy its directory from a machine that has it"
        )
        raise UserError(f"app_slots: release {version!r} is not in {RELEASES}; {how}")
    return directory.resolve()


def version_of(version: str) -> str:
    """The content-addressed version behind ``version``."""
    return resolve(version).name


def resolve_present(version: str) -> Path:
    """The same, before it is applied: ``current`` must be what this checkout is now.

    Otherwise an apply from a machine that has fetched the newest checkout, and not built it, would take all hosts
    back to the release that was last built there.

    :raises UserError: there is no such release, or ``current`` is another one
    """
    directory = resolve(version)
    if version == "current" and directory.name != (wanted := of_checkout()):
        raise UserError(
            f"app_slots: current is {directory.name}, and this checkout's services and locks make {wanted}: "
            "./griddle release build, or name a version in app_slots"
        )
    return directory
