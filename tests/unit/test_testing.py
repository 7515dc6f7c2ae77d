"""How the tests themselves are run: which beside which, and what a run that skipped something says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import APART, LabBesideTheRest

TESTS = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="no compiler here")
def test_needs_a_compiler(): pass
"""


def test_what_shares_no_lab_is_apart():
    lab = Path(__file__).parents[1] / "lab"
    own = {path.name for path in lab.glob("test_*.py") if not re.search(r"\blab: LabUnderTest", path.read_text())}
    assert set(APART) == own
    scope = {name: LabBesideTheRest._split_scope(None, f"tests/lab/{name}::test_it[x::y]") for name in APART}
    assert set(scope.values()) == {"apart"}
    assert LabBesideTheRest._split_scope(None, "tests/lab/test_deploy.py::test_it") == "lab"
    assert LabBesideTheRest._split_scope(None, "tests/unit/test_it.py::test_it") == "rest"


@pytest.mark.parametrize("processes", ["0", "1"])
@pytest.mark.parametrize(("option", "code"), [("--no-skip", 1), ("--long", 0)])
def test_what_was_skipped_is_named_and_fails(tmp_path: Path, option: str, code: int, processes: str) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", processes, option, "--rootdir", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("test_it.py::test_needs_a_compiler: no compiler here" in done.stdout) == (option == "--no-skip")
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]
