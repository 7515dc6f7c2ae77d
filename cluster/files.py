"""Files of the operator's machine that must outlive a kill, a crash, and a second process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import UserError


def write_durably(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """A reader sees the old file or the new one, whole, also after a power loss; it is on the disk on return.

    Directories are made (mode 0700) where they are missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a process of the same number that was killed
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """What was renamed into or removed from a directory stays so after a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, holder: str = "") -> Iterator[None]:
    """Holds a lock on a file. The kernel lets go of it when the process ends, however it ends.

    :param holder: who takes it, for those who are refused; "": nobody is refused, all wait
    :raises UserError: somebody holds it, by name
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if holder else 0))
        except BlockingIOError:
            raise UserError(f"{file.read().strip() or 'another process'} is at work on {path.parent}") from None
        if holder:
            file.truncate(0)
            file.write(f"{holder} (process {os.getpid()})\n")
            file.flush()
        yield
