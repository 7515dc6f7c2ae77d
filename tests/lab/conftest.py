"""Labs for the tests: each in a copy of the checkout, so that the developer's own lab is never touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploys.conductor import lock
from deploys.framework import shell
from ops import lab as ops_lab
from ops.lab.plan import LabPlan
from tests.conftest import lab_of

CHECKOUT = Path(__file__).resolve().parents[2]
_COPIES = CHECKOUT / ".griddle" / "tests"
_NOT_COPIED = shutil.ignore_patterns(".git", ".griddle", ".venv", "__pycache__", ".*_cache", ".hypothesis")

Completed = subprocess.CompletedProcess[str]
HANGS_SECONDS = 300  # what has not come by then, however busy the machine is, does not come


@pytest.fixture(scope="session")
def sampled(pytestconfig: pytest.Config) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Of points to be killed at: every third, from one that the commit chooses; with --long all of them.

    So each run has points all along the way, each commit's run the same ones, and all get their turn.
    """
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True).stdout
    first, step = (0, 1) if pytestconfig.getoption("--long") else (int(head or "0", 16) % 3, 3)

    def chosen(points: Sequence[Any]) -> Sequence[Any]:
        print(f"of {list(points)}: {list(points[first::step])}")
        return points[first::step]

    return chosen


class LabUnderTest:
    """A copy of the checkout, and its lab as the command line and SSH show it."""

    def __init__(self, name: str) -> None:
        self.checkout = _COPIES / name
        if self.checkout.exists():  # of a run that was killed
            self.griddle("down")
            shutil.rmtree(self.checkout)
        shutil.copytree(CHECKOUT, self.checkout, ignore=_NOT_COPIED, symlinks=True)
        (self.checkout / ".venv").symlink_to(sys.prefix)
        # Releases are content-addressed and take minutes to build.
        releases = CHECKOUT / ".griddle" / "releases"
        releases.mkdir(parents=True, exist_ok=True)
        (self.checkout / ".griddle").mkdir()
        (self.checkout / ".griddle" / "releases").symlink_to(releases)

    @property
    def plan(self) -> LabPlan:
        return ops_lab.current_plan(self.checkout)

    def reporting(self) -> list[str]:
        """Names of the hosts that send metrics: all but spare ones, which an earlier test may have left."""
        return sorted(host.name for host in self.plan.hosts if set(host.groups) != {"spare"})

    def griddle_command(self, *arguments: str) -> list[str]:
        return [".venv/bin/python", "-m", "ops.cli.main", *arguments]

    def griddle(self, *arguments: str, check: bool = True, seconds: float = 3600) -> Completed:
        """Runs a command of the CLI; where `check`, a failure shows its output."""
        return self._run(self.griddle_command(*arguments), check, seconds)

    def griddle_killed_at(self, step: str, *arguments: str, seconds: float = 0) -> bool:
        """Starts a command, and kills all of it so long after it says that it begins the step.

        Whether it said so; else it has come to its end.
        """
        with subprocess.Popen(
            self.griddle_command(*arguments), cwd=self.checkout, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        ) as run:  # fmt: skip
            came = any(line.strip().startswith(step) for line in run.stderr)
            time.sleep(seconds if came else 0)
            os.killpg(run.pid, signal.SIGKILL)
        return came

    def pyinfra(self, *arguments: str, check: bool = True, seconds: float = 3600) -> Completed:
        """Runs pyinfra in the copy."""
        return self._run([".venv/bin/pyinfra", *arguments], check, seconds)

    def changes(self, component: str) -> dict[str, list[str]]:
        """Applies components; which operations changed something, and on which hosts."""
        apply = ("inventory/lab.py", "deploys/all.py", "--data", f"component={component}")
        operations = json.loads(self.pyinfra("-y", "--json", *apply).stdout)["results"]["operations"]
        return {each["name"]: each["success"] for each in operations if each["success"]}

    def ssh(self, host: str, command: str, check: bool = True, seconds: float = HANGS_SECONDS) -> Completed:
        """Runs a shell command on a host, as the deploy user."""
        found = self.plan.host(host)
        assert found is not None, f"no host {host} in {self.plan}"
        return self._run([*ops_lab.ssh_command(self.checkout, found), command], check, seconds)

    def status(self) -> dict[str, Any]:
        """What `lab status --json` says."""
        return json.loads(self.griddle("lab", "status", "--json").stdout)

    def states(self) -> dict[str, str]:
        """Host → state."""
        return {host["name"]: host["state"] for host in self.status()["hosts"]}

    def _run(self, command: list[str], check: bool, seconds: float) -> Completed:
        done = subprocess.run(
            command, cwd=self.checkout, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds
        )
        if check and done.returncode:
            pytest.fail(f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def remove(self) -> None:
        self.griddle("down")
        shutil.rmtree(self.checkout)


def report(lab: LabUnderTest) -> dict[str, Any]:
    """What the last operation has reported."""
    newest = max((lab.checkout / "results" / "operations").glob("*.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text())


@contextmanager
def held_by_another(lab: LabUnderTest) -> Iterator[str]:
    """Another run holds the cluster's lock, and renews it; gives what those who are refused are told."""
    document = {"operation": "fdb replace", "owner": "ada@desk (pid 7)", "started": "2026-01-01T00:00:00+00:00"}
    members = [host.name for host in lab.plan.hosts if "etcd" in host.groups]
    ended = threading.Event()

    def everywhere(script: str) -> None:
        for member in members:
            lab.ssh(member, f"sudo {shell.command(script)}", check=False)

    def renew() -> None:
        while not ended.wait(lock.RENEW_SECONDS):
            everywhere(lock.take_over("ada", document))

    everywhere(lock.take_over("ada", document))
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield "another run is changing the cluster: fdb replace, by ada@desk (pid 7) since 2026-01-01"
    finally:
        ended.set()
        thread.join()
        everywhere(lock.give_back("ada"))


@pytest.fixture(scope="package")
def make_lab() -> Iterator[Callable[[str], LabUnderTest]]:
    """Makes a copy of the checkout whose lab is taken down after the last lab test; nothing is booted yet."""
    if reason := ops_lab.unavailable():
        pytest.skip(f"containers cannot run here: {reason}")
    made = []

    def make(name: str) -> LabUnderTest:
        made.append(LabUnderTest(name))
        return made[-1]

    yield make
    for lab in made:
        lab.remove()


@pytest.fixture(scope="package")
def booted(make_lab: Callable[[str], LabUnderTest]) -> Callable[[str], LabUnderTest]:
    """The shared lab of an engine: bare at first, and of two the other one is taken down."""
    labs: dict[str, LabUnderTest] = {}

    def boot(engine: str) -> LabUnderTest:
        if engine not in labs:
            for other in labs.values():
                other.griddle("down")
            lab = labs[engine] = make_lab(f"shared-{engine}")
            # With TLS, which a database is created with: the stricter of the two.
            values = lab.checkout / "inventory" / "group_data" / "lab.py"
            values.write_text(f"{values.read_text()}fdb_tls = True\n")
            lab.griddle("up", "--bare", "--store", engine)
        return labs[engine]

    return boot


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, booted: Callable[[str], LabUnderTest]) -> LabUnderTest:
    """The lab that a file's tests share with others (tests/conftest.py)."""
    engine = lab_of(request.node.nodeid)
    assert engine, f"{request.node.nodeid} is in none of LABS"
    return booted(engine)
