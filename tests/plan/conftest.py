"""Plan tests run the real deploys on pyinfra's fake hosts: they prove order, barriers and what a failure stops.

A fake host answers every command with success and no output, so nothing here says anything of idempotence.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster import artifacts
from deploys.conductor import lock
from tests.unit.clusters import HOSTS

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """A finished pyinfra run: ``operations`` are (name, [hosts that ran it]) in the order of execution."""

    returncode: int
    operations: list[tuple[str, list[str]]]
    output: str

    def position(self, name: str) -> int:
        return [operation for operation, _ in self.operations].index(name)


def parse(output: str) -> list[tuple[str, list[str]]]:
    operations: list[tuple[str, list[str]]] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines():
        if match := re.match(r"--> Starting (?:serial )?operation: (.*?)(?: \(.*\))?$", line.strip()):
            operations.append((match[1], []))
        elif operations and (match := re.match(r"\[@fake/(\S+?)\s*\]\s+(Success|No changes)", line.strip())):
            operations[-1][1].append(match[1])
    return operations


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """``packages(VERSION)``: this machine has FoundationDB's packages of that version, made up."""

    def lay(version: str) -> None:
        directory = tmp_path / "artifacts"
        directory.mkdir()
        sums = ""
        for package in artifacts.PACKAGES:
            name = artifacts.file_name(package, version)
            (directory / name).write_text(package)
            sums += f"{hashlib.sha256(package.encode()).hexdigest()}  {name}\n"
        (directory / "SHA256SUMS").write_text(sums)
        monkeypatch.setenv("GRIDDLE_ARTIFACTS", str(directory))

    return lay


@pytest.fixture
def held():
    """What hosts answer where another run holds the cluster's lock."""
    document = {"operation": "fdb replace", "owner": "ada@desk (pid 7)", "started": "2026-01-01T00:00:00+00:00"}
    return {lock.FILE: ["other token", json.dumps(document)]}


@pytest.fixture
def fake(tmp_path):
    """Run a deploy on the usual cluster of fake hosts.

    ``responses``: {host: {substring of a command: what it answers}}; see pyinfra's fake connector.
    """

    def run(deploy: str, *arguments: str, responses: dict[str, dict[str, Any]] | None = None, **data: Any) -> Run:
        responses = responses or {}
        groups = {
            group: [
                (
                    f"@fake/{name}",
                    {
                        "address": f"192.0.2.{octet}",
                        "fake_delay": 0,
                        "fake_delay_jitter": 0,
                        "fake_responses": responses.get(name, {}) | responses.get("*", {}),
                        "proxy_virtual_ip": "192.0.2.10",
                        "app_slots": {"a": "r-plan"},
                        **data,
                    },
                )
                for name, octet in hosts.items()
            ]
            for group, hosts in HOSTS.items()
        }
        release = tmp_path / "state" / "releases" / "r-plan"
        release.mkdir(parents=True, exist_ok=True)
        (release / "release.tar").touch()
        (release / "manifest.json").write_text(json.dumps({"version": "r-plan", "archive_sha256": "0" * 64}))
        inventory = tmp_path / "lab.py"
        inventory.write_text(
            "".join(f"{group} = {hosts!r}\n" for group, hosts in groups.items())
            + "from deploys.components import refuse_bad_input as _refuse\n_refuse(__file__, globals())\n"
        )
        # -y skips the preparation that a dry run is about
        yes = [] if "--dry" in arguments else ["-y"]
        pyinfra = [Path(sys.executable).parent / "pyinfra", *yes, "--group-data", "inventory/group_data"]
        done = subprocess.run(
            [*pyinfra, inventory, deploy, *arguments],
            cwd=ROOT, env=os.environ | {"GRIDDLE_STATE": str(tmp_path / "state")},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        output = done.stdout + done.stderr
        return Run(done.returncode, parse(output), output)

    return run
