import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cluster.ssh import CURL
from deploys.framework import shell
from deploys.metrics import exporter
from ops.direct import urlopen

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"
SOMEBODYS = {
    "PATH": "/bin", "HOME": "/root", "LANG": "de_DE.UTF-8", "LC_ALL": "tr_TR.UTF-8", "TAR_OPTIONS": "--verbose",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE),
}  # fmt: skip


def run(script, **environment):
    """What a script prints that is run as hosts run it, in a session with a umask and settings of its own."""
    session = {"env": SOMEBODYS | environment, "umask": 0o027}
    done = subprocess.run(["sh", "-c", shell.command(script)], **session, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server():
    """Something that answers "here" to everything; its address."""

    asked = []

    class Here(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Here) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
        listening.shutdown()
        thread.join()


def test_no_script_depends_on_the_session_that_it_runs_in(tmp_path):
    run(f"mkdir {tmp_path}/made; echo x > {tmp_path}/file")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    seen = dict(line.split("=", 1) for line in run("env").splitlines())
    assert seen["PATH"].split(":")[:3] == ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin"]
    assert seen["LC_ALL"] == "C.UTF-8"
    assert not {"LANG", "TAR_OPTIONS"} & seen.keys()
    assert run("ls /nowhere 2>&1 || true") == "ls: cannot access '/nowhere': No such file or directory\n"


def test_what_asks_the_cluster_itself_goes_by_no_proxy(server, monkeypatch):
    url, asked = server
    assert run(f"curl -fsS {url}") == "here"
    python = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    assert run(f"{sys.executable} -c '{python}' {url}") == "here\n"
    by_hand = subprocess.run(["sh", "-c", f"{CURL} -f {url}"], env=SOMEBODYS, capture_output=True, text=True)
    assert by_hand.stdout == "here"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    assert urlopen(url, timeout=5).read() == b"here"
    exporter.post(f"{url}/exported", ["a 1"])
    assert "/exported" in asked


def test_apt_alone_asks_its_mirrors_by_the_hosts_own_proxies():
    seen = run(f"{shell.WITH_PROXIES}; env", no_proxy="mirror.example")
    lines = seen.splitlines()
    assert {f"http_proxy={NOWHERE}", f"https_proxy={NOWHERE}", "no_proxy=mirror.example"} <= {*lines}
    assert not any(line.startswith("NO_PROXY") for line in lines)


def test_nothing_reaches_hosts_or_the_cluster_but_in_these_ways():
    """Commands: operations and facts by pyinfra's setting, the others by `shell.command`. Requests: directly."""
    assert "config.SHELL = shell.EXECUTABLE" in (ROOT / "config.py").read_text()
    for path in [*ROOT.glob("deploys/**/*.py"), *ROOT.glob("ops/**/*.py"), *ROOT.glob("cluster/**/*.py")]:
        text = path.read_text()
        if re.search(r"\.run_shell_command[(,]", text):
            assert "StringCommand(shell.command(" in text and 'StringCommand("sh"' not in text, path
        assert not re.search(r"ssh\.target\(\w+\), (?!shell)\w", text), path
        # packages from their vendor, the operator's webhook
        outside = {"cluster/artifacts.py", "cluster/marks.py"}
        if str(path.relative_to(ROOT)) not in outside:
            assert "request.urlopen" not in text, path


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
    program = (
        "from pathlib import Path; from deploys.framework.shell import upload_path; print(upload_path(Path('x')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() not in ("", shell.upload_path(Path("x")))
