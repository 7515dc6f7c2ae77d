"""The cluster's lock: its scripts run for real, on hosts that are directories here."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster.errors import Failure, UserError
from deploys.conductor import lock

HOSTS = ["app1", "app2", "app3"]


class Hosts:
    """`ask` as SSH would; hosts in `away` do not answer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.away: set[str] = set()
        for host in HOSTS:
            (directory / host).mkdir(exist_ok=True)

    def __call__(self, host: str, script: str) -> list[str]:
        if host in self.away:
            raise Failure(f"{host}: no answer")
        there = script.replace("/run/", f"{self._directory}/{host}/")
        done = subprocess.run(["sh", "-c", there], capture_output=True, text=True)
        assert not done.stderr, done.stderr
        if done.returncode:
            raise Failure(f"{host}: {done.stdout}")
        return done.stdout.splitlines()

    def file(self, host: str) -> Path:
        return self._directory / host / Path(lock.FILE).name


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    monkeypatch.delenv(lock.VARIABLE, raising=False)
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.2)
    yield Hosts(tmp_path)
    os.environ.pop(lock.VARIABLE, None)


ANOTHER = """
import sys, time
from pathlib import Path
from deploys.conductor import lock
from tests.unit.test_lock import HOSTS, Hosts
held = lock.take(sys.argv[2], HOSTS, Hosts(Path(sys.argv[1])), float(sys.argv[3]))
print(time.monotonic(), flush=True)
time.sleep(float(sys.argv[4]))
print(time.monotonic(), flush=True)
held.release()
"""


def another(directory: Path, title: str = "deploys/all.py", wait: float = 0, hold: float = 60) -> subprocess.Popen:
    """Another process that takes it, prints when it has it, and when it gives it back."""
    command = [sys.executable, "-c", ANOTHER, str(directory), title, str(wait), str(hold)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def held_elsewhere(hosts, tmp_path):
    process = another(tmp_path)
    assert process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_of_many_that_begin_at_once_only_one_at_a_time_holds_it(hosts, tmp_path):
    processes = [another(tmp_path, wait=30, hold=0.1) for _ in range(4)]
    spans = sorted([float(word) for word in each.communicate(timeout=60)[0].split()] for each in processes)
    assert len(spans) == 4
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_a_second_is_refused_with_owner_and_since_when(hosts, held_elsewhere):
    """The other is a process of this user on this machine: that does not make it oneself."""
    for refused in (
        lambda: lock.take("fdb upgrade", HOSTS, hosts),
        lambda: lock.await_free(HOSTS, hosts, 0),
    ):
        with pytest.raises(UserError) as refusal:
            refused()
        said = str(refusal.value)
        assert f"deploys/all.py, by {lock.owner().partition(' ')[0]} (pid {held_elsewhere.pid}) since 20" in said
        assert "--lock-wait" in said and "lock_wait" in said


def test_it_is_free_again_when_the_other_ends(hosts, tmp_path, capsys):
    process = another(tmp_path, hold=1.5)
    assert process.stdout.readline()
    lock.take("fdb upgrade", HOSTS, hosts, wait_seconds=20).release()
    process.communicate()
    assert "waiting up to 20 s for deploys/all.py, by " in capsys.readouterr().err
    assert lock.seen(HOSTS, hosts) is None
    assert not any(hosts.file(host).exists() for host in HOSTS)


def test_what_a_killed_process_of_this_machine_has_left_is_taken_over_at_once(hosts, held_elsewhere):
    held_elsewhere.kill()  # nobody has asked for its exit status yet: the kernel still lists it
    os.waitid(os.P_PID, held_elsewhere.pid, os.WEXITED | os.WNOWAIT)
    began = time.monotonic()
    lock.take("again", HOSTS, hosts).release()
    assert time.monotonic() - began < 5


def test_one_that_was_killed_on_another_machine_ends_by_itself(hosts, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_SECONDS", 2)
    document = {"operation": "fdb replace", "owner": "ada@desk (pid 7)", "process": ["another boot", "", "7", "1"]}
    for host in HOSTS:
        hosts(host, lock.take_over("ada", document))
    with pytest.raises(UserError, match=r"fdb replace, by ada@desk \(pid 7\)"):
        lock.take("again", HOSTS, hosts)
    lock.take("again", HOSTS, hosts, wait_seconds=lock.LEASE_SECONDS + 2).release()


def test_children_are_not_another_run_and_their_end_is_not_the_end(hosts, tmp_path):
    held = lock.take("pki rotate", HOSTS, hosts)
    child = another(tmp_path, hold=0.5)  # it inherits the environment
    assert len(child.communicate(timeout=30)[0].split()) == 2
    del os.environ[lock.VARIABLE]  # as any other process sees it
    assert lock.seen(HOSTS, hosts)["operation"] == "pki rotate"
    held.check()
    held.release()


def test_it_is_renewed_for_as_long_as_its_process_lives(hosts, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1)
    held = lock.take("long", HOSTS, hosts)
    time.sleep(3)
    held.check()
    del os.environ[lock.VARIABLE]
    assert lock.seen(HOSTS, hosts)["operation"] == "long"
    held.release()


def test_without_a_majority_it_is_lost_for_good(hosts, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1)
    held = lock.take("long", HOSTS, hosts)
    hosts.away = {"app1"}
    time.sleep(1.5)
    held.check()
    hosts.away = {"app1", "app2"}
    time.sleep(1.5)
    with pytest.raises(Failure, match="lock has ended"):
        held.check()
    hosts.away = set()  # nobody knows what another run has done meanwhile
    time.sleep(1)
    with pytest.raises(Failure, match="lock has ended"):
        held.check()
    held.release()


def test_where_few_hosts_answer_it_is_said_and_those_few_count(hosts, capsys):
    hosts.away = {"app1", "app2"}
    held = lock.take("repair", HOSTS, hosts)
    assert "held on 1 of 3 hosts of group etcd: app1: no answer; app2: no answer" in capsys.readouterr().err
    held.check()
    del os.environ[lock.VARIABLE]
    hosts.away = set()
    with pytest.raises(UserError, match="repair, by "):  # the first two grant it, the third does not
        lock.take("another", HOSTS, hosts)
    assert not hosts.file("app1").exists()
    held.release()


def test_a_renewal_that_is_under_way_does_not_take_it_again_after_its_end(hosts):
    under_way = threading.Event()

    def slow(host: str, script: str) -> list[str]:
        if threading.current_thread() is not threading.main_thread() and host == "app2":
            under_way.set()
            time.sleep(0.5)
        return hosts(host, script)

    held = lock.take("first", HOSTS, slow)
    assert under_way.wait(5)
    held.release()
    time.sleep(1)
    assert not any(hosts.file(host).exists() for host in HOSTS)


def test_a_host_that_cannot_write_it_down_does_not_grant_it(tmp_path):
    (tmp_path / Path(lock.FILE).name).with_suffix(".new").symlink_to("/dev/full")
    script = lock.take_over("ada", {}).replace("/run/", f"{tmp_path}/")
    assert subprocess.run(["sh", "-c", script], capture_output=True).returncode != 0


@pytest.mark.parametrize("content", ["", "\n", "soon\n", "99999999999\n", 'x y\n{"operation'])
def test_a_file_that_nobody_can_read_is_no_ones(hosts, content):
    for host in HOSTS:
        hosts.file(host).write_text(content)
    lock.take("first", HOSTS, hosts).release()


def test_what_is_printed_of_another_may_be_anything():
    assert lock.other_in([]) is None and lock.other_in([""]) is None
    assert lock.other_in(["other t", "{"]) == {"token": "t"}
    assert lock.other_in(["other t", json.dumps({"owner": "a"})]) == {"owner": "a", "token": "t"}
