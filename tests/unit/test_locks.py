import subprocess
import sys
import textwrap

import pytest

from deploys.framework import locks

HOLDER = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Locks of this test's own, in place of the host's."""
    own = tuple(str(tmp_path / name) for name in ("frontend", "dpkg", "lists", "archives"))
    monkeypatch.setattr(locks, "FILES", own)
    return own


@pytest.fixture
def hold():
    """hold(FILE): another process that has locked it, until it is killed."""
    holders = []

    def take(file):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        holders.append(process)
        process.stdout.readline()
        return process

    yield take
    for process in holders:
        process.kill()
        process.communicate()


def run(script):
    return subprocess.run(["sh", "-c", locks.or_held(script)], capture_output=True, text=True)


@pytest.mark.parametrize("which", range(4))
def test_each_lock_is_waited_for_and_its_holder_named(files, hold, tmp_path, which):
    process = hold(files[which])
    done = run(f"touch {tmp_path}/ran")
    assert done.returncode == 0, done
    assert locks.holder(done.stdout.splitlines()).endswith(f"(pid {process.pid}): {files[which]}")
    assert not (tmp_path / "ran").exists()
    process.kill()
    process.wait()
    assert locks.holder(run(f"touch {tmp_path}/ran").stdout.splitlines()) is None
    assert (tmp_path / "ran").exists()


def test_a_lock_that_is_taken_meanwhile_is_no_failure(files, hold, tmp_path):
    taken = run(f"echo 'E: Could not get lock {files[2]}. It is held by process 7 (apt-get)' >&2; exit 100")
    assert (taken.returncode, locks.holder(taken.stdout.splitlines())) == (0, "a process that has just ended")
    script = textwrap.dedent(f"""\
        {sys.executable} -c "
        import fcntl, time
        f = open('{files[1]}', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); open('{tmp_path}/held', 'w'); time.sleep(3)" &
        while [ ! -e {tmp_path}/held ]; do sleep 0.05; done
        exit 2""")
    held = run(f"( {script} ) >/dev/null 2>&1")
    assert held.returncode == 0
    assert "(pid " in locks.holder(held.stdout.splitlines())


def test_a_failure_is_one(files):
    failed = run("echo before; echo 'E: Unable to locate package nginx-lihgt' >&2; exit 100")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "nginx-lihgt" in failed.stderr
