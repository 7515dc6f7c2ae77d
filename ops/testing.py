"""`griddle test`: pytest with this project's settings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run(checkout: Path, arguments: Sequence[str]) -> int:
    """Runs pytest on what is named, or on everything, and returns its exit code."""
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=checkout).returncode
