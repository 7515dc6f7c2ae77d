"""What a dry run says of hosts that have been applied to, and where a file is not as wanted."""

import base64
import hashlib
import json

import pytest

from deploys.firewall import config
from deploys.framework.tree import look_command

OLD = "[Service]\nExecStart=old\n"
# As an apply has left it: its definition is OLD, and its input is what `griddle-firewall look` says.
UNIT = f"""\
inputs f00d 1
stamp {config.UNIT}:f00d 1 DEFINITION 1 one/1
Id={config.UNIT}
ActiveState=active
FragmentPath={config.UNIT_FILE}
InvocationID=one
StateChangeTimestampMonotonic=1
ctime 1 {config.UNIT_FILE}
{"a" * 64}  {config.UNIT_FILE}"""


@pytest.fixture
def responses():
    """Every host: the firewall's unit has another file than wanted; its rules are not the wanted ones."""
    files = config.files() | {config.UNIT_FILE: OLD}
    tree = []
    for path, file in files.items():
        data = file.encode() if isinstance(file, str) else file.data
        mode = "644" if isinstance(file, str) else file.mode
        tree += [f"f\t{mode}\troot\troot\t\t{path}", f"{hashlib.sha256(data).hexdigest()}  {path}"]
    definition = hashlib.sha256(f"{'a' * 64}  {config.UNIT_FILE}\n".encode()).hexdigest()[:16]
    return {
        "*": {
            look_command(files).split("; ")[0]: tree,
            f"{config.PROGRAM} look": ["kept abc", "live def", "loaded def"],
            f"applied/{config.UNIT} /dev/null": UNIT.replace("DEFINITION", definition),
            "base64 -w 0": {"success": False, "stderr": "nobody asks for contents"},
        }
    }


@pytest.fixture
def contents(responses):
    """With --diff they are asked for."""

    lines = [
        f"{len(text)} {base64.b64encode(text.encode()).decode()} {path}"
        for path, text in ((config.UNIT_FILE, OLD), (config.KEPT, "table inet griddle {}\n"))
    ]
    responses["*"]["base64 -w 0"] = lines
    return responses


ONE = ("--data", "component=firewall")
FILE = f"all 11 hosts:\n        change {config.UNIT_FILE}\n"
RESTART = f"restart {config.UNIT}: its definition {config.UNIT_FILE} changes\n"


def test_a_restart_that_a_file_of_the_same_run_brings_is_said(fake, responses):
    run = fake("deploys/all.py", "--dry", *ONE, store_engine="etcd", responses=responses)
    assert run.returncode == 0, run.output
    assert FILE in run.output and RESTART in run.output
    assert f"change {config.KEPT}\n" in run.output
    assert f"--> What would be done to units:\n    restart on all 11 hosts: {config.UNIT}\n" in run.output
    assert "@@" not in run.output


def test_with_diff_contents_are_shown_once_for_all_hosts(fake, contents):
    run = fake("deploys/all.py", "--dry", "--diff", *ONE, store_engine="etcd", responses=contents)
    assert run.returncode == 0, run.output
    assert FILE + "          @@ " in run.output and run.output.count("-ExecStart=old\n") == 1
    assert "+\tchain input {" in run.output, "the rules, too"


def test_an_apply_with_diff_says_the_same(fake, contents):
    run = fake("deploys/all.py", "--diff", *ONE, store_engine="etcd", responses=contents)
    assert run.returncode == 0, run.output
    at = run.output.index("Starting operation: firewall | unit")
    assert FILE + "          @@ " in run.output[at:] and run.output.count("-ExecStart=old\n") == 1


def test_json_carries_the_same_as_data(fake, responses):
    run = fake("deploys/all.py", "--dry", "--json", *ONE, store_engine="etcd", responses=responses)
    (document,) = [line for line in run.output.splitlines() if line.startswith('{"plan"')]
    changes = {entry["name"]: entry["changes"] for entry in json.loads(document)["plan"]}
    assert len(changes["firewall | unit"]) == 11 and changes["firewall | packages"] == {}
    assert changes["firewall | ruleset is loaded at boot"]["@fake/app1"] == [
        {
            "kind": "unit", "act": "restart", "name": config.UNIT,
            "notes": [f"its definition {config.UNIT_FILE} changes"], "diff": [],
        }
    ]  # fmt: skip


def test_where_nothing_would_change_it_says_so(fake):
    run = fake("deploys/all.py", "--dry", "--data", "component=smoke", store_engine="etcd")
    assert run.returncode == 0 and "--> Nothing would change." in run.output, run.output
