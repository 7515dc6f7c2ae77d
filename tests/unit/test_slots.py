"""A slot that is rolled onto a release whose workers do not come up."""

import subprocess
import time

import pytest

from deploys.app import config, operations


@pytest.fixture
def slot(tmp_path, monkeypatch):
    """Slot a on release one; beside it release two, which does not come up. `running` is what workers run."""
    for name in ("SLOTS", "RELEASES"):
        monkeypatch.setattr(config, name, str(tmp_path / name.lower()))
        (tmp_path / name.lower()).mkdir()
    for release in ("one", "two"):
        (tmp_path / "releases" / release).mkdir()
        (tmp_path / "releases" / release / "VERSION").write_text(release)
    subprocess.run(["sh", "-c", operations.points_to("a", "one")], check=True)
    return tmp_path


def start(path, worker, comes_up="one"):
    """A worker's (re)start and its gate, as a shell script."""
    return (
        f"cat {path}/slots/a/VERSION > {path}/running-{worker}\n"
        f"grep -qx {comes_up} {path}/running-{worker} || {{ echo {worker} is not ready; exit 1; }}"
    )


def state(path):
    running = {file.name: file.read_text() for file in sorted(path.glob("running-*"))}
    return (path / "slots" / "a").resolve().name, running


def test_the_host_is_back_on_the_release_that_it_had(slot):
    subprocess.run(["sh", "-c", operations.points_to("a", "two")], check=True)
    (slot / "running-0").write_text("two")  # rolled by this run, before its neighbour failed
    script = operations.or_back(start(slot, 1), "a", "one", [start(slot, 1), start(slot, 0)])
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "1 is not ready\nthis host is back on release one\n"
    assert state(slot) == ("one", {"running-0": "one", "running-1": "one"})


def test_one_that_comes_up_is_kept(slot):
    subprocess.run(["sh", "-c", operations.points_to("a", "two")], check=True)
    script = operations.or_back(start(slot, 0, "two"), "a", "one", [start(slot, 0)])
    assert subprocess.run(["sh", "-c", script], capture_output=True).returncode == 0
    assert state(slot) == ("two", {"running-0": "two"})


def test_what_does_not_come_back_either_is_said(slot):
    subprocess.run(["sh", "-c", operations.points_to("a", "two")], check=True)
    script = operations.or_back(start(slot, 0), "a", "one", [start(slot, 0, "neither"), start(slot, 1)])
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "0 is not ready\n0 is not ready\n")
    assert state(slot) == ("one", {"running-0": "one", "running-1": "one"}), (
        "the others are brought back all the same"
    )


def test_it_goes_back_while_nobody_listens_any_more(slot):
    """The operator's process was killed: the connection is gone, and so is whoever would read what is said."""
    subprocess.run(["sh", "-c", operations.points_to("a", "two")], check=True)
    script = operations.or_back(start(slot, 0), "a", "one", [start(slot, 0)])
    with subprocess.Popen(["sh", "-c", f"sleep 0.3\n{script}"], stdout=subprocess.PIPE) as process:
        process.stdout.close()
    end = time.monotonic() + 5
    while state(slot) != ("one", {"running-0": "one"}):
        assert time.monotonic() < end, state(slot)
        time.sleep(0.05)
