"""How deploys talk to hosts, by pyinfra itself, over a path that is cut, closed, or opens no channel."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.lost_ssh import Server

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = """
app1 = [("app1", {{"ssh_hostname": "127.0.0.1", "ssh_port": {port}, "ssh_user": "any", "ssh_key": "{key}",
    "ssh_known_hosts_file": "/dev/null", "ssh_strict_host_key_checking": "off"}})]
"""
# Each line of `does` runs when the operation executes; `server` is told by files what to do to the path.
DEPLOY = """
import time
from collections.abc import Generator
from pathlib import Path
from pyinfra import host, state
from pyinfra.api import StringCommand, operation
from deploys.framework import remote
from deploys.framework.gateway import Gateway
from cluster.errors import Failure
from cluster.progress import say

def tell(what):
    Path({directory!r}, what).touch()
    while Path({directory!r}, what).exists():
        time.sleep(0.05)

def attempt(command="echo ran", what="try", seconds=60):
    began = time.monotonic()
    try:
        say(f"GOT {{remote.run(host, command, what, seconds)}}")
    except Failure as failure:
        say(f"FAILURE {{time.monotonic() - began:.0f}} s: {{failure}}")

@operation()
def does() -> Generator[StringCommand]:
    host.noop("it does")
    if state.is_executing:
{does}
    return
    yield

does(name="try | it")
"""


@pytest.fixture
def server(tmp_path):
    found = Server(tmp_path)
    yield found
    found.stop()


def run(server: Server, tmp_path: Path, does: str, seconds: float = 60) -> tuple[int, str]:
    """pyinfra's exit code and output; files named cut, heal, close or mute do that to the server."""
    (tmp_path / "inventory.py").write_text(INVENTORY.format(port=server.port, key=server.key))
    body = "".join(f"        {line}\n" for line in does.splitlines())
    (tmp_path / "deploy.py").write_text(DEPLOY.format(directory=str(tmp_path), does=body))
    process = subprocess.Popen(
        [Path(sys.executable).parent / "pyinfra", "-y", tmp_path / "inventory.py", tmp_path / "deploy.py"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    end = time.monotonic() + seconds
    try:
        while process.poll() is None:
            assert time.monotonic() < end, "pyinfra hangs"
            for act in ("cut", "heal", "close"):
                if (tmp_path / act).exists():
                    getattr(server, act)()
                    (tmp_path / act).unlink()
            if (tmp_path / "mute").exists():
                server.mute = True
                (tmp_path / "mute").unlink()
            time.sleep(0.05)
    finally:
        process.kill()
        output = process.communicate()[0]
    return process.returncode, re.sub(r"\x1b\[[0-9;]*m", "", output)


def failures(output: str) -> list[tuple[int, str]]:
    return [(int(found[1]), found[2]) for found in re.finditer(r"FAILURE (\d+) s: (.*)", output)]


def test_a_path_that_is_cut_ends_in_a_line_in_time(server, tmp_path):
    code, output = run(server, tmp_path, 'attempt()\ntell("cut")\nattempt(seconds=3)')
    assert code == 0 and "GOT ['ran']" in output, output
    ((seconds, said),) = failures(output)
    assert seconds <= 5
    assert said.startswith("app1: try: no end within 3 s") and "run the same again" in said


def test_a_channel_that_is_never_opened_is_waited_for_in_bounds(server, tmp_path):
    """paramiko alone waits an hour, whatever the command's own limit is."""
    _, output = run(server, tmp_path, 'tell("mute")\nattempt(seconds=2)')
    ((seconds, said),) = failures(output)
    assert seconds <= 4 and said.startswith("app1: try: no end within 2 s")


def test_a_connection_that_ended_is_made_anew_for_the_next_command(server, tmp_path):
    code, output = run(server, tmp_path, 'tell("close")\nattempt()\nattempt("exit 3", "refuse")')
    assert code == 0 and "GOT ['ran']" in output, output
    assert failures(output) == [(0, "app1: refuse: no output")]
    assert server.connections == 2


def test_what_ran_when_the_connection_ended_is_not_sent_again(server, tmp_path):
    ran = tmp_path / "ran"
    does = f'import gevent\ngevent.spawn_later(0.7, tell, "close")\nattempt("echo . >> {ran}; sleep 3")\nattempt()'
    code, output = run(server, tmp_path, does)
    ((_, said),) = failures(output)
    assert code == 0 and said.startswith("app1: try: SSH connection lost ("), output
    assert "GOT ['ran']" in output and ran.read_text() == ".\n"


def test_in_an_operation_it_ends_the_run_in_a_line(server, tmp_path):
    code, output = run(server, tmp_path, 'tell("cut")\nremote.run(host, "true", "look", 1)')
    assert code == 1 and "app1: look: no end within 1 s" in output and "Traceback" not in output


def test_pyinfras_own_commands_end_in_a_line_too(server, tmp_path):
    """EOFError, which paramiko raises where the path is closed while it sends, is nothing that pyinfra knows."""
    does = (
        "from pyinfra.connectors.ssh import SSHConnector\n"
        "transport = host.connector.client.get_transport()\n"
        "transport.sock.close()\n"
        "transport.packetizer.close()\n"
        'ok = host.get_fact(__import__("pyinfra.facts.server", fromlist=["Hostname"]).Hostname)'
    )
    code, output = run(server, tmp_path, does)
    assert code == 1 and "Traceback" not in output, output


def test_connections_are_kept_alive_and_given_up(server, tmp_path):
    does = (
        "import socket\n"
        "transport = host.connector.client.get_transport()\n"
        "limit = transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)\n"
        'say(f"KEPT {transport.packetizer._Packetizer__keepalive_interval} {limit} {transport.channel_timeout}")\n'
        'tell("close")\nattempt()\n'
        "transport = host.connector.client.get_transport()\n"
        'say(f"KEPT {transport.packetizer._Packetizer__keepalive_interval} {limit} {transport.channel_timeout}")\n'
    )
    _, output = run(server, tmp_path, does)
    assert output.count("KEPT 5 30000 15") == 2, output


def test_the_gateway_asks_the_next_member(server, tmp_path):
    """The first member's host is cut off; the second is the same server by another name, without curl's files."""
    does = (
        "import copy, deploys.framework.gateway as g\n"
        "g.curl = lambda path, port: 'cat >/dev/null; echo \"{}\"'\n"
        "class Away: name = 'app9'\n"
        "def asked(on, *a, ask=remote.ask, **k):\n"
        "    if on.name == 'app9': raise remote.Unreachable('app9: cut')\n"
        "    return ask(on, *a, **k)\n"
        "remote.ask = asked\n"
        "say(f\"ANSWER {Gateway([Away, host], 1).call('x', {})}\")"
    )
    code, output = run(server, tmp_path, does)
    assert code == 0 and "ANSWER {}" in output, output


def test_pyinfra_still_asks_for_its_callers_by_the_names_that_config_replaces() -> None:
    # in a process of its own: importing pyinfra makes the whole process gevent's
    ask = (
        "import inspect\nfrom pyinfra.api import util\n"
        "assert util.stack is inspect.stack and util.getframeinfo is inspect.getframeinfo"
    )
    subprocess.run([sys.executable, "-c", ask], check=True)
