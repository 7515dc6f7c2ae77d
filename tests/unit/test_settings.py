"""The table of data: complete, agreed with pyinfra and the docs, and never a traceback whatever it is given."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import check, forms, model
from cluster.data import SETTINGS, comments, defaults
from ops import data
from tests.unit.clusters import HOSTS, cluster

ROOT = Path(__file__).resolve().parents[2]
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQ0oHVJvlvJwn1f6mj8XzDMfMJrDLzFJ5TCa4hTtC8u"

STORE, WHERE = "blobstore://key@s3.example:9000", "bucket=c&region=d"


def test_every_key_of_group_data_is_in_the_table_with_a_meaning():
    known = defaults()
    assert sorted(set(known) - set(SETTINGS)) == [], "cluster/data.py has no line for these"
    assert [key for key, default in known.items() if not default.meaning] == [], "no comment says what these mean"
    for group in ("lab", "prod"):
        assert sorted(set(model.group_data(group)) - set(known)) == [], "no default"


def test_what_has_no_default_is_a_host_s_a_run_s_or_pyinfra_s_own():
    without = {key for key in SETTINGS if key not in defaults()}
    assert all(key == "address" or SETTINGS[key].meaning for key in without)


def test_the_table_knows_what_pyinfra_s_ssh_connector_knows():
    # in a process of its own: importing pyinfra makes the whole process gevent's
    ask = "from pyinfra.connectors.ssh import ConnectorData as c; print(*c.__annotations__)"
    theirs = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert {key for key in SETTINGS if key.startswith("ssh_")} == set(theirs)


def test_docs_data_md_is_made_from_the_table():
    made = "\n".join(data.markdown()) + "\n"
    assert (ROOT / "docs" / "data.md").read_text() == made, "python -m ops.data > docs/data.md"


def test_comments_are_meanings():
    source = (
        "# --- part\n# first,\n# and second\na = 1\nb = [\n    2,  # not this\n]  # this\n\n# far away\n\nc = 3\n"
    )
    assert comments(source) == {"a": "first, and second", "b": "this", "c": ""}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
    | st.sampled_from(["", "0", "1h", "8GiB", "10.0.0.0/8", "http://[", "a/b", "yes", ED25519, 0, 1, 1e400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def inventory(**own) -> dict:
    """An inventory file's variables; `own` is proxy1's data."""
    names = {
        group: [(name, {"address": f"192.0.2.{octet}"}) for name, octet in hosts.items()]
        for group, hosts in HOSTS.items()
    }
    names["proxies"][0][1].update(own)
    return names


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of group_data stay as they are, and reading them is most of what an example takes."""
    monkeypatch.setattr(model, "group_data", functools.cache(model.group_data))
    monkeypatch.setattr(data, "defaults", functools.cache(data.defaults))


def examples(number: int) -> settings:
    """No deadline: the machine may be busy. The fixture is the same for all examples, as it should be."""
    return settings(
        max_examples=number, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )


@examples(200)
@given(st.sampled_from(sorted(SETTINGS)), values, st.booleans())
def test_any_value_at_any_key_is_taken_or_refused_by_one_line_each(read_once, key, value, by_run):
    own, overrides = ({}, {key: value}) if by_run else ({key: value}, {})
    lines = check.refused(Path("prod.py"), inventory(**own), overrides)
    assert all("\n" not in line and len(line) < 500 for line in lines)
    if [*SETTINGS[key].form.faults(value)]:
        assert lines, f"{key} = {value!r} was taken"
    json.dumps([*data.rows(model.from_file(Path("prod.py"), inventory(**own), overrides))], default=repr)


class Odd:
    """What somebody's inventory may hold: it is Python."""

    def __repr__(self):
        return "several\nlines"


@pytest.mark.parametrize("value", [Odd(), [Odd()], {10**5000: 1}, [10**5000], "a\u2028b", print, set()], ids=type)
@pytest.mark.parametrize("key", ["proxy_lane", "base_data_disks", "app_slots", "firewall_ssh_from", "fdb_knobs"])
def test_so_is_what_only_a_program_can_make(key, value):
    lines = check.refused(Path("prod.py"), inventory(**{key: value}), {})
    assert lines
    assert all(line.splitlines() == [line] and len(line) < 500 for line in lines)


@pytest.mark.parametrize(
    ("key", "value", "seen"),
    [
        ("notify_webhook_url", ["https://hooks.example/1", "https://hooks.example/2"], "(a secret) on proxy1"),
        ("firewall_ssh_from", [[f"10.{n}.0.0/16" for n in range(last)] for last in (20, 21)], "10.0.0.0/16"),
    ],
)
def test_what_is_the_cluster_s_is_the_same_on_all_hosts_beyond_what_is_shown_of_it(key, value, seen):
    names = inventory(**{key: value[0]})
    for group in names.values():
        for _, own in group:
            own.setdefault(key, value[1])
    (line,) = check.refused(Path("prod.py"), names, {})
    assert line.startswith(f"{key} is the cluster's, the same on all hosts, and differs: ") and seen in line


@examples(50)
@given(st.sampled_from(sorted(model.GROUPS)), values)
def test_any_group_of_an_inventory_is_taken_or_refused(read_once, group, value):
    lines = check.refused(Path("prod.py"), {**inventory(), group: value}, {})
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("ssh_user", ["deploy", "svc_1-a"], ["", "a b", "john.doe", "a/b", 5, None]),
        ("cluster_name", ["prod", "eu-west_1"], ["a/b", "..", "", "a b", 7, True]),
        ("base_deploy_keys", [[], [ED25519], [f"{ED25519} me@here"], [f'from="10.0.0.0/8",no-pty {ED25519}']],
         [ED25519, [ED25519[:-8]], ["-----BEGIN OPENSSH PRIVATE KEY-----"], [f"{ED25519}\nx"], [""], None]),
        ("base_journal_max", ["512M", "2G"], ["512 MB", "0M", "", 512, "512MiB"]),
        ("base_data_disks", [{}, {"/data": "/dev/nvme1n1"}], [["/data"], {"data": "/dev/sdb"}, {"/data": "sdb"}]),
        ("firewall_ssh_from", [["0.0.0.0/0"], ["198.51.100.7", "2001:db8::/32"]],
         [[], "10.0.0.0/8", ["10.0.0.5/8"], ["office"], [10], None]),
        ("firewall_ssh_port", [None, 22], ["22", 0, 65536, True, 22.0]),
        ("store_workers", [1, 100], [0, -1, "4", 4.0, True, 101]),
        ("store_engine", ["fdb", "etcd"], ["mongo", "", None, ["fdb"]]),
        ("app_slots", [{"a": "current", "b": ""}], [{"c": "current"}, "current", {"a": "x/y"}, {"a": None}]),
        ("proxy_virtual_ip", ["192.0.2.10", "10.0.0.1", "203.0.113.9"],
         ["", "192.0.2", "::1", "192.0.2.10/24", 3221225994, "127.0.0.1", "224.0.0.18", "0.0.0.0", "0.1.2.3",
          "255.255.255.255"]),
        ("proxy_lane_override", [True, False], ["yes", "true", 1, 0, None]),
        ("etcd_quota_bytes", [2 * 1024**3], ["2GiB", 0, 2.0e9]),
        ("etcd_snapshot_every", ["30min", "1h", "1h 30min", "1d"], ["hourly", "0h", 3600, "3600", ""]),
        ("metrics_retention", ["30d", "1y"], ["30", "a month", 30, "0d"]),
        ("metrics_promise_ms", [25, 2.5, 25.0], [30, "25", True, 1.0j]),
        ("metrics_promise_share", [0.99], [99, 1, 0, "0.99", True, float("nan")]),
        ("fdb_memory", ["8GiB", "512MB"], ["8", "8 GiB", "8G", 8, "0GiB", "٣GiB"]),
        ("fdb_knobs", [{}, {"max_outstanding": 1}], [[], {"a b": 1}, {"a": "x y"}, {"a": None}, {"a": []}]),
        ("fdb_backup_url", ["", "file:///srv/backup"], ["/srv", "file://s", "file:///a b", 5, None]),
        ("fdb_backup_url", [f"{STORE}/a/b?{WHERE}", f"{STORE}/a?sc=0&{WHERE}"], [STORE, f"{STORE}/?{WHERE}"]),
        ("fdb_backup_url", [f"blobstore://h/a?{WHERE}"], [f"blobstore://k:s@h/a?{WHERE}", f"{STORE}/a?bucket=c"]),
        ("notify_webhook_url", ["", "https://hooks.example/x"], ["hooks.example", "ftp://x", "https://", 5]),
        ("ssh_port", [22, None], ["22", 0, 1.5]),
        ("ssh_allow_agent", [True], ["no", 0]),
    ],
)  # fmt: skip
def test_forms(key, good, bad):
    form = SETTINGS[key].form
    assert {repr(value): [*form.faults(value)] for value in good} == {repr(value): [] for value in good}
    assert [value for value in bad if not [*form.faults(value)]] == []


def test_every_default_has_its_form_but_the_virtual_address():
    assert [key for key, default in defaults().items() if [*SETTINGS[key].form.faults(default.value)]] == [
        "proxy_virtual_ip"
    ]


def test_a_line_says_where_the_value_was_set():
    lines = check.refused(Path("prod.py"), inventory(store_workers="4", store_wrokers=4), {"proxy_lane": "fast"})
    assert sorted(lines) == [
        "--data: proxy_lane is 'fast'; one of direct, wsgi is needed",
        "host proxy1: store_workers is '4'; a whole number from 1 to 100 is needed",
        "host proxy1: store_wrokers: no such key; store_workers?",
    ]


def test_what_several_hosts_share_is_said_once():
    lines = check.refused(Path("prod.py"), inventory(), {"store_port": 20000})
    assert [line.partition(": ")[0] for line in lines] == ["hosts app1, app2, app3"]


def test_a_number_that_python_does_not_spell_out():
    (line,) = check.refused(Path("prod.py"), inventory(), {"store_workers": 10**5000})
    assert line.startswith("--data: store_workers is (a long int)")


def test_a_secret_is_not_shown():
    hook = "hooks.example/T0/secret"
    assert "secret" in (line := check.refused(Path("prod.py"), inventory(), {"notify_webhook_url": hook})[0])
    assert hook not in line
    usual = cluster(notify_webhook_url="https://hooks.example/T0/B0")
    assert "T0" not in json.dumps(list(data.rows(usual)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("store_wokers = 4\n", "group_data/prod.py: store_wokers: no such key; store_workers?"),
        ("proxy_virtual_ip = \n", "group_data/prod.py:1: SyntaxError"),
        ("proxy_virtual_ip = 1 / 0\n", "group_data/prod.py: ZeroDivisionError"),
        ("store_workers = '4'\n", "group_data/prod.py: store_workers is '4'"),
    ],
)
def test_a_bad_group_data_file_is_named(tmp_path, monkeypatch, content, words):
    for path in model.GROUP_DATA.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "prod.py").write_text(content)
    monkeypatch.setattr(model, "GROUP_DATA", tmp_path)
    assert any(line.startswith(words) for line in check.refused(Path("prod.py"), inventory(), {}))


def test_what_group_data_imports_is_no_data(tmp_path, monkeypatch):
    """As docs/operations.md has it for the webhook's address."""
    (tmp_path / "prod.py").write_text("import os\nfrom pathlib import Path\nx = os.environ.get('NOTHING', '')\n")
    monkeypatch.setattr(model, "GROUP_DATA", tmp_path)
    assert model.group_data("prod") == {"x": ""}


def griddle(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "data", *arguments],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_griddle_data_says_what_a_cluster_has_of_its_own():
    document = json.loads(griddle("--inventory", "inventory/prod.py", "--json").stdout)
    keys = {row["name"]: row for row in document["keys"]}
    assert set(keys) == set(SETTINGS)
    assert document["cluster"] == "prod"
    (seen,) = keys["proxy_virtual_ip"]["values"]
    assert (seen["value"], seen["source"], len(seen["hosts"])) == ("192.0.2.10", "group_data/prod.py", 11)
    assert keys["store_port"]["values"] == []
    shown = griddle("--inventory", "inventory/prod.py").stdout
    assert "here: '192.0.2.10' (all 11 hosts, by group_data/prod.py)" in shown


def test_sizes_are_bytes():
    assert forms.size_bytes("1KB") == 1000
    assert forms.size_bytes("8GiB") == 8 * 1024**3
