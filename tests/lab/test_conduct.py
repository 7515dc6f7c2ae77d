"""The conductor: one run at a time, and hosts that are cut off at each step (of tests/lab/trial.py)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import HANGS_SECONDS, LabUnderTest, held_by_another, report

# From the cut to the end of the run, whatever it waits for. What remote.py bounds comes to half a minute,
# a busy machine adds to that, and a run that hangs does not end at all.
BOUND_SECONDS = 240
AGENT = "component=agent"


@pytest.fixture(scope="module")
def trial(lab: LabUnderTest) -> Iterator[LabUnderTest]:
    """The lab, serving, with the trial's deploy beside the others."""
    lab.griddle("up")
    shutil.copy(Path(__file__).parent / "trial.py", lab.checkout)
    yield lab
    (lab.checkout / "trial.py").unlink()


class Run:
    """A pyinfra run in the background, whose output is looked at while it goes on."""

    def __init__(self, lab: LabUnderTest, *arguments: str, **environment: str) -> None:
        self._log = lab.checkout / f"run-{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [".venv/bin/pyinfra", "-y", "inventory/lab.py", *arguments],
                cwd=lab.checkout, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=os.environ | environment,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self._log.read_text())

    def until(self, words: str, seconds: float = HANGS_SECONDS) -> None:
        end = time.monotonic() + seconds
        while words not in self.output:
            assert time.monotonic() < end and self.process.poll() is None, self.output
            time.sleep(0.1)

    def ended(self, seconds: float = 2 * HANGS_SECONDS) -> tuple[int, str]:
        """Exit code and output."""
        try:
            code = self.process.wait(seconds)
            return code, self.output
        finally:
            self.process.kill()
            self._log.unlink()


def conduct(lab: LabUnderTest, steps: str = "first second", **environment: str) -> Run:
    lab.ssh("app2", "sudo rm -f /run/griddle-trial")
    return go_on(lab, steps, **environment)


def go_on(lab: LabUnderTest, steps: str = "first second", **environment: str) -> Run:
    return Run(lab, "trial.py", **{"TRIAL": steps, **environment})


def done(lab: LabUnderTest) -> list[str]:
    return lab.ssh("app2", "cat /run/griddle-trial 2>/dev/null; true").stdout.split()


# --- one run at a time


def test_of_two_applies_at_once_one_is_refused_and_names_the_other(trial: LabUnderTest) -> None:
    runs = [Run(trial, "deploys/all.py", "--data", AGENT) for _ in range(2)]
    ended = sorted((run.ended() for run in runs), key=lambda each: each[0])
    assert [code for code, _ in ended] == [0, 2], ended
    (line,) = [line for line in ended[1][1].splitlines() if line.startswith("griddle: ")]
    pids = "|".join(str(run.process.pid) for run in runs)
    assert re.search(rf"another run .*: deploys/all.py {AGENT}, by \S+@\S+ \(pid ({pids})\) since 20", line)
    assert "Starting operation: agent" not in ended[1][1]


def test_who_is_beside_an_operation_waits_as_told_and_requests_wait_for_the_operation_alone(
    trial: LabUnderTest,
) -> None:
    told = "sudo cat /run/griddle/control.json"
    operation = conduct(trial, TRIAL_SECONDS="8")
    operation.until("first ...")
    assert json.loads(trial.ssh("app3", told).stdout)["keys"]["operations/current"]["wait_ms"] == 3000
    refused = Run(trial, "deploys/all.py", "--data", AGENT)
    apply = Run(trial, "deploys/all.py", "--data", AGENT, "--data", "lock_wait=120")
    code, output = refused.ended()
    assert code == 2 and "another run is changing the cluster: drill trial, by " in output, output
    apply.until("waiting up to")
    assert operation.ended()[0] == 0
    apply.until("Starting operation: agent | the agent runs")
    assert "operations/current" not in json.loads(trial.ssh("app3", told).stdout)["keys"]
    assert apply.ended()[0] == 0


def test_all_that_changes_a_cluster_is_refused_by_its_lock(trial: LabUnderTest) -> None:
    with held_by_another(trial) as said:
        rotate = trial.griddle("pki", "rotate", "lab", check=False)
        assert rotate.returncode == 2 and said in rotate.stderr
        assert trial.griddle("pki", "show", "lab").stdout.count("phase steady") == 1
        dry = trial.pyinfra("--dry", "inventory/lab.py", "deploys/all.py", "--data", AGENT)
        assert said in dry.stderr


@pytest.mark.long
def test_what_its_own_killed_process_has_left_keeps_nobody_waiting(trial: LabUnderTest) -> None:
    killed = conduct(trial, TRIAL_SECONDS="60")
    killed.until("first ...")
    killed.process.kill()
    killed.process.wait()
    code, output = go_on(trial).ended()
    assert code == 0 and "waiting" not in output, output


# --- a path that is lost


def cut_at(lab: LabUnderTest, host: str, words: str, **environment: str) -> tuple[int, str, float]:
    """Cuts a host off when the run says so: exit code, output, seconds from the cut to the end."""
    run = conduct(lab, **{"TRIAL_SECONDS": "6", "TRIAL_LOOK_SECONDS": "2", **environment})
    try:
        run.until(words)
        lab.griddle("lab", "cut", host)
        cut = time.monotonic()
        code, output = run.ended(BOUND_SECONDS)
        return code, output, time.monotonic() - cut
    finally:
        run.process.kill()
        lab.griddle("lab", "heal", host)


# Each run: tests/unit/test_remote.py, the gateway's next member; tests/plan/test_conduct.py, what only reports.
@pytest.mark.long
def test_the_next_member_is_asked_and_what_only_reports_fails_nothing(trial: LabUnderTest) -> None:
    """etcd is asked by way of app1, which also holds the lock; proxy1 is asked what clients felt."""
    run = conduct(trial, TRIAL_SECONDS="8")
    try:
        run.until("first ...")
        trial.griddle("lab", "cut", "app1", "proxy1")
        code, output = run.ended(BOUND_SECONDS)
    finally:
        run.process.kill()
        trial.griddle("lab", "heal", "app1", "proxy1")
    assert code == 0, output
    assert done(trial) == ["first", "second"]
    document = report(trial)
    assert document["outcome"] == "done"
    assert any("proxy1" in line for line in document["not_done"]), document
    assert "not done: read what clients of proxy1 waited: proxy1: " in output and "lock: app1: " in output


def test_a_host_that_is_acted_on_is_named_in_time_and_the_next_run_goes_on(trial: LabUnderTest) -> None:
    code, output, _ = cut_at(trial, "app2", "second ...")
    assert code == 1, output
    assert re.search(r"drill trial: app2: wait: (no end within 8 s|SSH connection lost)", output), output
    assert report(trial)["outcome"] == "failed" and report(trial)["problem"].startswith("app2: ")
    code, output = go_on(trial).ended()
    assert (code, done(trial)) == (0, ["first", "second"]), output


STEPS = {
    "before the lock": "Beginning operation run",
    "announce": "announce it to proxies and app hosts ...",
    "look": "announce it to proxies and app hosts: done",
    "act": "first ...",
    "the last step": "second ...",
}


@pytest.mark.long
@pytest.mark.parametrize("host", ["app1", "app2", "proxy1", "metrics1"])
@pytest.mark.parametrize("step", STEPS)
def test_cut_off_at_each_step_it_ends_in_time_and_in_words_and_the_next_run_goes_on(
    trial: LabUnderTest, host: str, step: str
) -> None:
    code, output, seconds = cut_at(trial, host, STEPS[step])
    problem = next((line for line in output.splitlines() if f"drill trial: {host}" in line), "")
    words = problem.partition("drill trial: ")[2] or "; ".join(re.findall(r"not done: (.*)", output)) or "-"
    with (Path(__file__).parents[2] / "cut-off.md").open("a") as table:
        table.write(f"| {step} | {host} | {code} | {seconds:.0f} s | {words} |\n")
    assert code in (0, 1) and "Traceback" not in output, output
    if code:
        assert host in problem, output
    else:
        assert done(trial) == ["first", "second"]
    await_all(trial)
    code, output = go_on(trial).ended()
    assert (code, done(trial)) == (0, ["first", "second"]), output


def await_all(lab: LabUnderTest) -> None:
    """A host that was healed is heard by all again."""
    end = time.monotonic() + HANGS_SECONDS
    health = "sudo griddle-etcdctl endpoint health --cluster 2>&1"
    while lab.ssh("app3", health, check=False).stdout.count("is healthy") < 3:
        assert time.monotonic() < end
        time.sleep(1)
