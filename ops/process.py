"""Child processes of the operator's commands."""

import ctypes
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import Failure

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(with_signal: int = signal.SIGTERM) -> None:
    """For ``preexec_fn``: the kernel sends this process the signal when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, with_signal)


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command to its end; what it printed. Raises Failure with what it said."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def pyinfra(
    inventory: str, deploy: str, data: Mapping[str, Any] | None = None, *, dry: bool = False,
    options: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """The command line that runs deploys/`deploy`.py, to be run in the checkout.

    :param data: pyinfra's ``--data``
    :param dry: print what would change, change nothing
    :param options: more of pyinfra's own, such as ("--exclude", "fdb3")
    """
    words = [str(Path(sys.executable).parent / "pyinfra"), "--dry" if dry else "-y", *options]
    words += [inventory, f"deploys/{deploy}.py"]
    for key, value in (data or {}).items():
        words += ["--data", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return words
