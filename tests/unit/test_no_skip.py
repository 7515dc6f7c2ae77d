"""`--no-skip`: a run that skipped something says what, and fails; the tests' own summary is its last line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="no compiler here")
def test_needs_a_compiler(): pass
"""


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
