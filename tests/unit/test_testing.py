"""How the tests themselves are run: which beside which, and what a run that skipped something says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import artifacts
from tests.conftest import LABS, LabsBesideTheRest
from tests.lab.versions import newest

TESTS = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="no compiler here")
def test_needs_a_compiler(): pass
"""


def test_each_file_that_shares_a_lab_says_which():
    here = Path(__file__).parents[1] / "lab"
    sharing = {path.name for path in here.glob("test_*.py") if re.search(r"\blab: LabUnderTest", path.read_text())}
    assert sorted(name for names in LABS.values() for name in names) == sorted(sharing)


def test_labs_have_a_process_each_and_what_shares_none_fills_in_by_files():
    scopes = {
        "tests/lab/test_deploy.py::test_it[x::y]": "auto",
        "tests/lab/test_metrics.py::test_it": "etcd",
        "tests/lab/test_hosts.py::test_it": "tests/lab/test_hosts.py",
        "tests/unit/test_metrics.py::test_it": "tests/unit/test_metrics.py",
    }
    assert {each: LabsBesideTheRest._split_scope(None, each) for each in scopes} == scopes


def test_an_upgrade_goes_to_the_newest_of_a_series_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDDLE_ARTIFACTS", str(tmp_path))
    assert newest("7.3", "7.3.77") == "7.3.x"
    for version in ("7.3.69", "7.3.77", "7.3.100", "7.3.79", "7.4.6"):
        for package in artifacts.PACKAGES:
            (tmp_path / artifacts.file_name(package, version)).touch()
    assert [newest("7.3", "7.3.77"), newest("7.4", "7.3.77")] == ["7.3.100", "7.4.6"]
    assert newest("7.3", "7.3.100") == "7.3.x", "nothing goes back, nor to itself"


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
