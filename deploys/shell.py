"""What every script that changes a host needs: to be the only one, and names that no other run uses."""

from __future__ import annotations

import secrets
from pathlib import Path

_RUN = secrets.token_hex(4)
_WAIT_SECONDS = 600


def exclusive(script: str) -> str:
    """The script, under a lock of its host.

    A run that is killed leaves its last command working on the host, and the next run would begin beside it:
    dpkg refuses that, and half of what one unpacks the other takes away. Two operators are kept apart as well.
    """
    return (
        f"exec 9>/run/lock/griddle; flock -w {_WAIT_SECONDS} 9 ||"
        f" {{ echo 'another run has been changing this host for {_WAIT_SECONDS} s' >&2; exit 1; }}\n{script}"
    )


def upload_path(file: Path) -> str:
    """Where to upload a file before a script puts it in place. The script removes it."""
    return f"/var/tmp/griddle-{_RUN}-{file.name}"


# Uploads of runs that were killed in between.
FORGET_OLD_UPLOADS = "find /var/tmp -maxdepth 1 -name 'griddle-*' -mmin +60 -delete"
