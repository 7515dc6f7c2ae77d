"""What an apply asks dpkg, and how it has packages installed."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from deploys.framework.facts import MissingPackages
from deploys.framework.operations import install_command
from deploys.framework.units import act_command


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="not a Debian machine")
def test_missing_packages_are_found_by_one_question() -> None:
    command = MissingPackages().command(names=["dpkg", "no-such-package", "libc6"])
    assert command.count("dpkg-query") == 1
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert [line for line in said.splitlines() if line != "!guard"] == ["no-such-package"]


def test_systemd_reads_units_once_for_all_packages_and_once_for_a_unit() -> None:
    script = install_command(["chrony", "!guard"])
    subprocess.run(["sh", "-n", "-c", script], check=True)
    assert "unshare --mount" in script and script.endswith("\nsystemctl daemon-reload")
    assert not re.search(r"enable (?!.*--no-reload)", act_command("a.service", "start", ["/etc/a"]))
