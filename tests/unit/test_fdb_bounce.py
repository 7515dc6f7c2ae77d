"""The scripts that restart processes, with shell scripts instead of FoundationDB's tools."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from deploys.foundationdb.upgrade import bounce_command, parse_bounce, zone_command

ENDPOINTS = ["192.0.2.31:4500", "192.0.2.31:4501"]


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Runs a script where one process counts as fdbserver, and fdbcli is what `fdbcli` says."""
    server = subprocess.Popen(["sleep", "60"])
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def tool(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    def run(script: str, fdbcli: str) -> tuple[subprocess.CompletedProcess[str], float]:
        tool("pidof", f"[ -e /proc/{server.pid} ] && echo {server.pid}")
        tool("runuser", f'case "$*" in *"--exec kill; "*) {fdbcli} ;; *getversion*) echo 4711 ;; esac')
        began = time.monotonic()
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60)
        return done, time.monotonic() - began

    run.server = server
    yield run
    server.kill()
    server.wait()


def test_a_zone_is_over_once_its_processes_are_gone_whatever_fdbcli_waits_for(host):
    done, took = host(zone_command(ENDPOINTS), f"kill -9 {host.server.pid}; sleep 20")
    assert done.returncode == 0, done.stderr
    assert took < 15 and "serving_again_seconds" in parse_bounce(done.stdout.splitlines())
    assert host.server.wait(1) == -9


def test_a_zone_that_cannot_be_killed_says_why(host):
    done, _ = host(zone_command(ENDPOINTS), "echo 'ERROR: process not recognized.' >&2; exit 1")
    assert done.returncode == 1 and "not recognized" in done.stderr
    assert host.server.poll() is None


def test_a_zone_that_is_not_gone_in_time_says_so(host):
    done, took = host(zone_command(ENDPOINTS, seconds=1), "echo 'Attempted to kill 2 processes'")
    assert done.returncode == 1 and "Attempted to kill" in done.stderr and took >= 1


@pytest.mark.parametrize(
    ("said", "code", "again"),
    [
        ("Attempted to kill 5 processes\\n4711", 0, True),
        ("Attempted to kill 5 processes\\nERROR: Operation timed out (1031)", 0, False),
        ("Specified timeout reached -- exiting...", 0, False),
        ("ERROR: no processes to kill.", 1, False),
    ],
)
def test_a_bounce_tells_when_a_transaction_could_begin_again(host, said, code, again):
    done, _ = host(bounce_command(), f"printf '{said}\\n'")
    assert done.returncode == code, done.stderr
    assert bool(parse_bounce(done.stdout.splitlines())) == again
