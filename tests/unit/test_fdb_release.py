"""The script that finds the tools which the servers understand, on a made-up /opt/foundationdb."""

import os
import subprocess
from pathlib import Path

import pytest

from deploys.foundationdb import config

SCRIPT = config.tool_files()[config.RELEASE_SCRIPT].content


class Releases:
    """Releases whose fdbcli reaches the servers or does not, and notes that it was asked."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, root / "asked"

    def add(self, version: str, reaches: bool) -> None:
        tool = self.root / version / "bin" / "fdbcli"
        tool.parent.mkdir(parents=True)
        says = "The database is available." if reaches else "WARNING: incompatible"
        tool.write_text(f"#!/bin/sh\necho {version} >>{self.asked}\necho '{says}'\n")
        tool.chmod(0o755)

    def current(self, version: str) -> None:
        (self.root / "current").symlink_to(version)

    def found(self) -> str:
        (self.root / "bin").mkdir(exist_ok=True)
        for name, body in (("pidof", "exit 1"), ("runuser", 'shift 3; exec "$@"')):
            fake = self.root / "bin" / name
            fake.write_text(f"#!/bin/sh\n{body}\n")
            fake.chmod(0o755)
        done = subprocess.run(
            ["sh", "-c", SCRIPT, "fdb-release", "/nowhere/fdb.cluster"],
            capture_output=True,
            text=True,
            env={
                "PATH": f"{self.root}/bin:{os.environ['PATH']}",
                "FDB_RELEASES": str(self.root),
                "FDB_REMEMBERED": str(self.root / "remembered"),
            },
        )
        assert not done.stderr
        return Path(done.stdout.strip()).name

    def were_asked(self) -> list[str]:
        words = self.asked.read_text().split() if self.asked.exists() else []
        self.asked.unlink(missing_ok=True)
        return words


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path)


def test_patches_of_one_minor_version_need_no_asking(releases: Releases) -> None:
    releases.add("7.3.77", False)
    releases.add("7.3.78", True)
    releases.current("7.3.77")
    assert releases.found() == "7.3.77" and releases.were_asked() == []


def test_the_minor_version_that_the_servers_answer_is_found_and_asked_first_afterwards(releases: Releases) -> None:
    releases.add("7.3.77", False)
    releases.add("7.3.9", False)
    releases.add("7.4.6", True)
    releases.current("7.3.77")
    assert releases.found() == "7.4.6" and releases.were_asked() == ["7.3.77", "7.4.6"]
    assert releases.found() == "7.4.6" and releases.were_asked() == ["7.4.6"]


def test_where_nobody_is_answered_it_is_the_current_one(releases: Releases) -> None:
    releases.add("7.3.77", False)
    releases.add("7.4.6", False)
    releases.current("7.3.77")
    assert releases.found() == "7.3.77"
    assert releases.were_asked() == ["7.3.77", "7.4.6"]
