"""Built releases as they lie on the operator's machine."""

from __future__ import annotations

from pathlib import Path

from cluster.errors import UserError
from cluster.paths import RELEASES
from ops.release import build as release


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
    if version == "current" and directory.name != (wanted := release.of_checkout()):
        raise UserError(
            f"app_slots: current is {directory.name}, and this checkout's services and locks make {wanted}: "
            "./griddle release build, or name a version in app_slots"
        )
    return directory
