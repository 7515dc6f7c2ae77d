"""`griddle test`: pytest with this project's settings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Two processes, each with a lab first; tests/conftest.py has the order.
SIDE_BY_SIDE = ("-n", "2", "--no-loadscope-reorder")


def command(checkout: Path, arguments: Sequence[str]) -> list[str]:
    """pytest's command line. Tests that are named run in this process, so that they can be debugged."""
    named = any((checkout / argument.partition("::")[0]).exists() for argument in arguments)
    return [sys.executable, "-m", "pytest", *(() if named else SIDE_BY_SIDE), *arguments]


def run(checkout: Path, arguments: Sequence[str]) -> int:
    """Runs pytest on what is named, or on everything, and returns its exit code."""
    return subprocess.run(command(checkout, arguments), cwd=checkout).returncode
