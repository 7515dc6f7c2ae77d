"""Which release this process runs: the VERSION file beside services/, as `./griddle release build` writes it."""

from pathlib import Path


def running_release() -> str:
    """The version, e.g. "r-0123456789ab"; "dev" in a checkout."""
    try:
        # resolved: a slot's symlink may be moved to another release while this process runs
        return (Path(__file__).resolve().parents[1] / "VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return "dev"
