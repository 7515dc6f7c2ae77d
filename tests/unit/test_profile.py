"""`griddle profile`: which process it takes, and what it says when there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import Failure, UserError
from cluster.model import Host
from ops import hosts, profile
from ops.profile import Worker

LOOKED = """\
griddle-store@a-0.service 10 1000000000
griddle-store@a-1.service 11 5000000000
griddle-store@a-1.service 12 7000000000
griddle-store@a-0.service 10 1050000000
griddle-store@a-1.service 11 5200000000
"""
APP = Host("app1", "192.0.2.21", frozenset({"apps"}), {})


def test_the_busiest_or_the_one_that_is_named() -> None:
    workers = profile.parse_look(LOOKED, 0.5)
    assert workers == [Worker("a-0", 10, pytest.approx(0.1)), Worker("a-1", 11, pytest.approx(0.4))]
    assert profile.choose(workers, "store", "app1", None).pid == 11
    assert profile.choose(workers, "store", "app1", "a-0").pid == 10
    with pytest.raises(UserError, match="no worker b-0 on app1: it has a-0, a-1"):
        profile.choose(workers, "store", "app1", "b-0")
    with pytest.raises(UserError, match=r"no store runs on app1: systemctl status 'griddle-store@\*.service'"):
        profile.choose([], "store", "app1", None)


def test_workers_of_nginx_are_numbered() -> None:
    lines = [f"nginx.service {pid} {ns}\n" for ns in (0, 10**8) for pid in (20, 21)]
    assert [each.name for each in profile.parse_look("".join(lines), 0.5)] == ["0", "1"]


@pytest.mark.parametrize(
    ("host", "unit", "said"),
    [("app9", "store", "no host app9 in cluster prod"), ("app1", "proxy", "app1 runs no proxy: it has front,"),
     ("fdb1", "store", "fdb1 runs no store: it has none of them")],
)  # fmt: skip
def test_what_cannot_be_profiled_is_bad_input(host: str, unit: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        profile.profile(hosts.ROOT / "inventory" / "prod.py", host, unit, 1, tmp_path / "out.svg", None)


def here(monkeypatch: pytest.MonkeyPatch, path: str | None = None) -> None:
    """Scripts for a host run on this machine, as this user."""

    def run(_: Host, script: str, seconds: float = 30, stdin: bytes | None = None):
        script = f'sudo() {{ "$@"; }}; export -f sudo; {f"PATH={path};" if path else ""} {script}'
        return subprocess.run(["bash", "-c", script], capture_output=True, timeout=seconds, input=stdin or b"")

    monkeypatch.setattr(hosts, "run", run)


def test_a_python_process_is_sampled_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    busy = subprocess.Popen([sys.executable, "-c", "def spin():\n    while True: pass\nspin()"])
    try:
        svg, cost = profile._py_spy(APP, Worker("a-0", busy.pid, 1.0), 1, native=False)
    except Failure as error:  # not root, and the kernel guards other processes
        pytest.skip(str(error))
    finally:
        busy.kill()
        busy.wait()
    assert b"<svg" in svg
    assert b"spin" in svg
    assert 0 < cost < 5
    with pytest.raises(Failure, match="app1: py-spy: "):
        profile._py_spy(APP, Worker("a-0", busy.pid, 1.0), 1, native=False)


def test_a_host_without_perf_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bash").symlink_to(shutil.which("bash") or "/bin/bash")
    here(monkeypatch, str(tmp_path))
    with pytest.raises(UserError, match="app1 has no perf: apt-get install linux-perf there"):
        profile._perf(APP, Worker("0", 1, 1.0), 1, False)


def test_what_the_profiler_took() -> None:
    assert profile.cpu_seconds("real 10.02\nuser 0.31\nsys 0.12\n") == pytest.approx(0.43)
