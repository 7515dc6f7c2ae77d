"""Two operators of one cluster; a rotation of its CA whose operator is killed."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.conftest import LabUnderTest
from tests.lab.rotation import certificates, kill_and_finish

ALL = ["inventory/lab.py", "deploys/all.py"]
PASSPHRASE = {"GRIDDLE_PASSPHRASE": "correct horse battery"}


@pytest.fixture(scope="module", autouse=True)
def serving(lab: LabUnderTest) -> None:
    lab.griddle("up")  # nothing, where other tests have left it serving


class Machine:
    """A second operator's: the checkout with its inventory and the key for ssh, and nothing else."""

    def __init__(self, lab: LabUnderTest, where: Path) -> None:
        self.checkout = where / "griddle"
        ignore = shutil.ignore_patterns(".griddle", ".venv", "__pycache__", "results")
        shutil.copytree(lab.checkout, self.checkout, ignore=ignore, symlinks=True)
        (self.checkout / ".venv").symlink_to(sys.prefix)
        # The lab's own inventory is made from its state; production's is in git, as this one is.
        names = runpy.run_path(str(lab.checkout / "inventory" / "lab.py"))
        groups = {name: hosts for name, hosts in names.items() if isinstance(hosts, list)}
        (self.checkout / "inventory" / "lab.py").write_text(
            "".join(f"{name} = {hosts!r}\n" for name, hosts in groups.items() if not name.startswith("_"))
            + "from deploys.components import refuse_bad_input as _refuse\n_refuse(__file__, globals())\n"
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "GRIDDLE_STATE"}
        return subprocess.run(
            command, cwd=self.checkout, env=environment | PASSPHRASE, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=1200,
        )  # fmt: skip

    def griddle(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(".venv/bin/python", "-m", "ops.cli.main", *arguments)

    def pyinfra(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(".venv/bin/pyinfra", *arguments)

    def state(self) -> list[Path]:
        return [path for path in (self.checkout / ".griddle").rglob("*") if path.is_file()]


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("griddle: ")]
    assert done.returncode == 2 and words in line and "Traceback" not in done.stderr, done.stderr
    print(line)


@pytest.fixture
def second(lab: LabUnderTest, tmp_path: Path) -> Machine:
    return Machine(lab, tmp_path)


def test_a_second_machine_is_refused_and_then_set_up_as_the_docs_say(
    lab: LabUnderTest, second: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = certificates(lab)
    refused(second.pyinfra("-y", *ALL), "release 'current' is not in")
    second.griddle("release", "build")
    refused(second.pyinfra("--dry", *ALL), "this machine has no copy of the CA that cluster lab has")
    refused(second.pyinfra("-y", *ALL), "this machine has no copy of the CA that cluster lab has")
    assert certificates(lab) == before
    assert not [path for path in second.state() if "clusters" in path.parts]

    for name, value in PASSPHRASE.items():
        monkeypatch.setenv(name, value)
    lab.griddle("pki", "export", "lab", str(tmp_path / "lab.pki"))
    assert second.griddle("pki", "import", str(tmp_path / "lab.pki")).returncode == 0
    done = second.pyinfra("-y", "--json", *ALL)
    results = json.loads(done.stdout)["results"]["operations"]
    assert {op["name"]: op["success"] for op in results if op["success"] or op["error"]} == {}
    assert certificates(lab) == before


@pytest.mark.long
def test_a_rotation_killed_in_each_phase_comes_to_its_end(lab: LabUnderTest) -> None:
    for operations in (0, 3, 6):
        kill_and_finish(lab, [(phase, operations) for phase in ("trust", "issue", "forget")])
