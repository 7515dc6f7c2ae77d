"""Rotations of the CA whose operator is killed, and what must hold meanwhile."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time

from tests.lab.conftest import LabUnderTest

FINGERPRINTS = "sudo sha256sum /etc/etcd/pki/* /etc/griddle/pki/* /etc/foundationdb/pki/* 2>/dev/null; true"


def certificates(lab: LabUnderTest) -> set[str]:
    """Checksums of all that hosts have of the CA: bundles, certificates, keys."""
    said = [lab.ssh(host.name, FINGERPRINTS).stdout for host in lab.plan.hosts]
    return {line.split()[0] for text in said for line in text.splitlines()}


def serves(lab: LabUnderTest) -> list[str]:
    """What is wrong with etcd and with reads by either lane."""
    health = lab.ssh("app1", "sudo griddle-etcdctl endpoint health --cluster 2>&1", check=False).stdout
    problems = [] if health.count("is healthy") == 3 else [health]
    for lane in ("direct", "wsgi"):
        url = f"http://{lab.plan.virtual_ip}/v1/profiles/p1"
        ask = ["curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"X-Lane: {lane}", url]
        if (code := subprocess.run(ask, capture_output=True, text=True).stdout) != "200":
            problems.append(f"{lane}: {code}")
    return problems


def strangers(lab: LabUnderTest) -> list[str]:
    """Pairs of hosts of which one does not trust the other's certificate, by openssl on this machine."""
    hosts = [host.name for host in lab.plan.hosts if host.name.startswith(("app", "proxy"))]
    here = lab.checkout / "results" / "pki"
    here.mkdir(parents=True, exist_ok=True)
    for host, name in itertools.product(hosts, ("ca.crt", "client.crt")):
        (here / f"{host}-{name}").write_text(lab.ssh(host, f"sudo cat /etc/griddle/pki/{name}").stdout)
    asked = {
        f"{one} by {other}": ["openssl", "verify", "-CAfile", here / f"{other}-ca.crt", here / f"{one}-client.crt"]
        for one, other in itertools.product(hosts, hosts)
    }
    return [pair for pair, command in asked.items() if subprocess.run(command, capture_output=True).returncode]


def rotate_killed(lab: LabUnderTest, phase: str, operations: int) -> bool:
    """Kills `pki rotate`, and the apply that it runs, in a phase after some of the apply's operations."""
    with subprocess.Popen(
        lab.griddle_command("pki", "rotate", "lab"), cwd=lab.checkout, text=True, bufsize=1,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        seen, started = "", 0
        for line in process.stdout:
            if line.startswith("lab: "):
                seen = line.split()[1].strip(":")
            started += seen == phase and line.startswith("--> Starting")
            if seen == phase and started >= operations:
                os.killpg(process.pid, signal.SIGKILL)
                return True
    return False


def state(lab: LabUnderTest) -> str:
    document = json.loads((lab.checkout / ".griddle/clusters/lab/pki/state.json").read_text())
    trusted = len(document["trusted"])
    phase = "steady" if trusted == 1 else "trust" if document["issuer"] == document["trusted"][0] else "issue"
    return f"{phase}{', pending' if document['pending'] else ''}"


def kill_and_finish(lab: LabUnderTest, kills: list[tuple[str, int]]) -> None:
    before = certificates(lab)
    for phase, operations in kills:
        assert rotate_killed(lab, phase, operations), "it came to its end"
        time.sleep(1)
        seen = state(lab), strangers(lab), serves(lab)
        print(
            f"killed in {phase} after {operations} operations: {seen[0]}; {seen[1] or 'no strangers'}; {seen[2]}"
        )
        assert not seen[1] and not seen[2]
    started = time.monotonic()
    lab.griddle("pki", "rotate", "lab")
    print(f"the same command: done in {time.monotonic() - started:.0f} s")
    assert state(lab) == "steady"
    assert not before & certificates(lab)
    assert not strangers(lab) and not serves(lab)
