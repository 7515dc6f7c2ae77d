"""No import runs back up the floors that docs/architecture.md names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from cluster.paths import ROOT

# Lowest first; what stands on one line does not import its neighbour.
FLOORS = (
    ("services", "nginx", "tuning"),
    ("cluster",),
    ("deploys/framework",),
    ("deploys/conductor",),
    ("deploys/*/",),  # the components, which may use each other
    ("deploys",),  # what one runs
    ("ops",),
    ("inventory",),
)


TOPS = ("services", "nginx", "tuning", "cluster", "deploys", "ops", "inventory")


def floor(path: str) -> tuple[int, str] | None:
    """(height, room) of a file; None for what stands on no floor, such as config.py."""
    for height, rooms in enumerate(FLOORS):
        for room in rooms:
            if room == "deploys/*/":
                if path.startswith("deploys/") and path.count("/") > 1:
                    return height, room
            elif path.startswith(f"{room}/"):
                return height, room
    return None


def imported(path: Path) -> Iterator[str]:
    """Files of this repository that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for candidate in (parts, parts[:-1]):
                stem = "/".join(candidate)
                if found := [each for each in (f"{stem}.py", f"{stem}/__init__.py") if (ROOT / each).is_file()]:
                    yield found[0]
                    break


def runs_up(name: str, other: str) -> bool:
    """Whether a file's import of another one leads up, or to a neighbour."""
    mine, theirs = floor(name), floor(other)
    if not (mine and theirs):
        return False
    return theirs[0] > mine[0] or (theirs[0] == mine[0] and theirs[1] != mine[1])


def test_what_leads_up_is_found() -> None:
    assert runs_up("cluster/check.py", "deploys/backup/config.py")
    assert runs_up("deploys/conductor/conduct.py", "deploys/etcd/config.py")
    assert runs_up("deploys/metrics/config.py", "deploys/all.py")
    assert runs_up("services/front.py", "tuning/profiles.py")
    assert not runs_up("deploys/backup/config.py", "deploys/foundationdb/config.py")
    assert "cluster/model.py" in imported(ROOT / "cluster" / "check.py")


def test_no_import_runs_back_up() -> None:
    files = [path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))]
    assert len(files) > 150
    names = {str(path.relative_to(ROOT)): path for path in files}
    wrong = [
        f"{name} imports {other}"
        for name, path in names.items()
        for other in imported(path)
        if runs_up(name, other)
    ]
    assert not wrong, "\n".join(wrong)
