"""The launcher `griddle`, with a python3 that only notes what it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

# Answers for its version, has every module, makes environments whose python is itself, notes the rest.
PYTHON = """#!/bin/sh
case "$*" in
    *"%d.%d"*) echo "$FAKE_VERSION"; [ "$FAKE_VERSION" != 3.9 ] ;;
    "-c import "*) [ -z "${FAKE_NO_VENV:-}" ] ;;
    *sysconfig*) echo "$FAKE_LOG.include" ;;
    "-m venv "*) echo venv >>"$FAKE_LOG"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    *"pip "*" install "*) echo "pip ${*##* }" >>"$FAKE_LOG"; [ -z "${FAKE_PIP_FAILS:-}" ] ;;
    *"pip "*" cache "*) ;;
    *) echo "run $*" >>"$FAKE_LOG" ;;
esac
"""


class Launcher:
    """A checkout with nothing but the launcher, its lists and the fake python3."""

    def __init__(self, directory: Path) -> None:
        self.checkout = directory / "checkout"
        self.checkout.mkdir()
        shutil.copy(CHECKOUT / "griddle", self.checkout)
        shutil.copytree(CHECKOUT / "requirements", self.checkout / "requirements")
        (self.checkout / "requirements/debian.txt").write_text("venv python3-venv module:ensurepip\n")
        self.log = directory / "log"
        binaries = directory / "bin"
        binaries.mkdir()
        (binaries / "python3").write_text(PYTHON)
        (binaries / "python3").chmod(0o755)
        # Nobody in particular, with an apt-get and a sudo that cannot do anything: no test changes this machine.
        for name, line in (("id", "echo 1000"), ("apt-get", "exit 1"), ("sudo", "exit 1")):
            (binaries / name).write_text(f"#!/bin/sh\n{line}\n")
            (binaries / name).chmod(0o755)
        self.environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "FAKE_LOG": str(self.log),
            "FAKE_VERSION": "3.11",
        }

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, list[str]]:
        """Exit code, standard error, and what python3 was asked for this time."""
        self.log.write_text("")
        done = subprocess.run(
            ["./griddle", *arguments],
            cwd=self.checkout,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stderr, self.log.read_text().splitlines()

    def environments(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in self.checkout.glob(".griddle/venv/*-*"))


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


def test_the_environment_is_made_once_and_every_argument_arrives(launcher: Launcher) -> None:
    code, error, asked = launcher.run("lab", "ssh", "app1", "echo a b")
    assert (code, asked) == (
        0,
        ["venv", "pip requirements/operator.lock", "run -m ops.cli.main lab ssh app1 echo a b"],
    )
    assert len(error.splitlines()) == 1
    assert launcher.run("down") == (0, "", ["run -m ops.cli.main down"])


def test_a_changed_lock_makes_a_new_environment_and_removes_the_old(launcher: Launcher) -> None:
    launcher.run("down")
    with (launcher.checkout / "requirements/operator.lock").open("a") as lock:
        lock.write("# changed\n")
    assert launcher.run("down")[2][0] == "venv"
    assert launcher.environments() == ["operator"]


def test_tests_get_the_larger_environment_and_other_commands_go_on_with_it(launcher: Launcher) -> None:
    launcher.run("down")
    assert launcher.run("test", "-k", "plan")[2] == [
        "venv",
        "pip requirements/build.lock",
        "pip requirements/dev.lock",
        "run -m ops.cli.main test -k plan",
    ]
    assert launcher.run("down")[2] == ["run -m ops.cli.main down"]
    assert launcher.environments() == ["dev"]


def test_a_load_from_outside_needs_no_more_than_an_operator(launcher: Launcher) -> None:
    for arguments in (("bench", "read"), ("bench", "compare", "a", "b"), ("capacity",), ("profile", "app1")):
        launcher.run(*arguments)
        assert launcher.environments() == ["operator"]


def test_the_benchmarks_get_the_largest_and_the_tests_go_on_with_it(launcher: Launcher) -> None:
    launcher.run("test")
    assert launcher.run("bench", "path")[2] == [
        "venv",
        "pip requirements/build.lock",
        "pip requirements/bench.lock",
        "run -m ops.cli.main bench path",
    ]
    assert launcher.run("test")[2] == ["run -m ops.cli.main test"]
    assert launcher.run("down")[2] == ["run -m ops.cli.main down"]
    assert launcher.environments() == ["bench"]


def test_what_failed_or_was_interrupted_is_made_anew(launcher: Launcher) -> None:
    code, error, asked = launcher.run("down", FAKE_PIP_FAILS="1")
    assert code == 2
    assert "could not install requirements/operator.lock" in error
    assert not any(line.startswith("run") for line in asked)
    assert launcher.run("down")[2][0] == "venv"
    assert launcher.run("down")[2] == ["run -m ops.cli.main down"]


def test_an_old_python_is_refused_with_what_is_needed(launcher: Launcher) -> None:
    code, error, asked = launcher.run("up", FAKE_VERSION="3.9")
    assert (code, asked) == (2, [])
    assert "3.9" in error
    assert "3.11 or newer" in error


def test_a_missing_debian_package_is_named(launcher: Launcher) -> None:
    code, error, _ = launcher.run("down", FAKE_NO_VENV="1")
    assert code == 2
    assert "could not install python3-venv" in error


def test_a_venv_of_somebody_else_is_not_removed(launcher: Launcher) -> None:
    (launcher.checkout / ".venv").mkdir()
    code, error, _ = launcher.run("down")
    assert code == 2
    assert "move it away" in error


def test_every_line_of_the_table_has_a_known_purpose_and_a_known_check() -> None:
    lines = (CHECKOUT / "requirements/debian.txt").read_text().splitlines()
    for line in (line for line in lines if not line.startswith("#")):
        purpose, package, check = line.split()
        assert purpose in ("venv", "lab", "compile", "serve", "test", "bench"), line
        assert package
        assert check.partition(":")[0] in ("command", "file", "module", "header"), line
