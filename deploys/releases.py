"""Built releases as they lie on the operator's machine."""

from __future__ import annotations

from pathlib import Path

from ops.errors import UserError
from ops.paths import RELEASES


def resolve(version: str) -> Path:
    """The directory of a built release; ``current`` is the one that was built last.

    :raises UserError: there is no such release
    """
    directory = RELEASES / version
    if not (directory / "manifest.json").is_file():
        raise UserError(
            f"app_slots: release {version!r} is not in {RELEASES}; run ./griddle release build"
        )
    return directory.resolve()


def version_of(version: str) -> str:
    """The content-addressed version behind ``version``."""
    return resolve(version).name
