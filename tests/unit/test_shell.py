import subprocess
import sys
import time
from pathlib import Path

from deploys import shell


def test_a_script_waits_for_the_one_before_it(tmp_path):
    """A killed run's last command goes on working on the host; the next run must not begin beside it."""
    script = shell.exclusive("date +%s.%N; sleep 0.4; date +%s.%N").replace("/run/lock/", f"{tmp_path}/")
    processes = [subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    spans = sorted([float(word) for word in p.communicate(timeout=10)[0].split()] for p in processes)
    assert spans[0][1] <= spans[1][0]


def test_a_host_that_another_run_holds_for_long_is_said(tmp_path):
    script = shell.exclusive("echo ran").replace("/run/lock/", f"{tmp_path}/").replace("-w 600", "-w 0.1")
    holder = subprocess.Popen(["flock", f"{tmp_path}/griddle", "sleep", "3"])
    time.sleep(0.3)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
    holder.terminate()
    holder.wait()
    assert (done.returncode, done.stdout) == (1, "")
    assert "another run" in done.stderr


def test_two_runs_upload_under_different_names():
    program = "from pathlib import Path; from deploys.shell import upload_path; print(upload_path(Path('x')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() not in ("", shell.upload_path(Path("x")))
