"""What every script on a host needs: an environment that nobody's session has made, to be the only one, and names
that no other run uses.
"""

from __future__ import annotations

import secrets
import shlex
from pathlib import Path

_RUN = secrets.token_hex(4)
_WAIT_SECONDS = 600

# The shell that runs every command on a host: config.py sets it for operations and facts, `command` is for others.
# A login session brings a umask, a locale, a PATH and whatever /etc/environment says; pam gives the same to sudo.
# Nothing of that is let through but proxies, and those are for apt alone: what asks the cluster itself (curl,
# etcdctl, Python) goes to it directly, as `no_proxy=*` tells all of them.
_PROXIES = ("http_proxy", "https_proxy")
_ENVIRONMENT = {
    "HOME": "$HOME",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "no_proxy": "*",
    "NO_PROXY": "*",
    "SSH_CONNECTION": "$SSH_CONNECTION",  # which way we came in: `deploys.framework.access`
    "apt_no_proxy": "$no_proxy",
    **{name: f"${{{name}-${name.upper()}}}" for name in _PROXIES},
}
EXECUTABLE = "sh -c 'umask 022; exec env -i {} sh \"$@\"' sh".format(
    " ".join(f'{name}="{value}"' for name, value in _ENVIRONMENT.items())
)
# For scripts in which apt asks its mirrors: by the host's own proxies.
WITH_PROXIES = 'export no_proxy="$apt_no_proxy"; unset NO_PROXY'


def command(script: str) -> str:
    """A script for `host.run_shell_command`, which does not look at pyinfra's settings."""
    return f"{EXECUTABLE} -c {shlex.quote(script)}"


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
