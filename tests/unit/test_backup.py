"""FoundationDB's backup: what is read of it, which version a time is, and what is left to do of a restore."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import UserError
from deploys.backup import config, object_store, plan, status
from deploys.backup.plan import Restore, RestoreSeen, RestoreTarget
from deploys.backup.status import Backup, Moment
from deploys.foundationdb import cluster_file
from ops.fdb.backup import seconds_of
from tests.unit.clusters import cluster

OLD, NEW = "file:///backup/backup-2026-05-01", "file:///backup/backup-2026-05-02"
RUNNING = Backup(running=True, url=NEW, restorable=9_000, at=1_100, lag_seconds=20.0)
STORE = "blobstore://k@s3:9000/lab/a?bucket=b&region=r&sc=0"
STORED = "blobstore://k@s3:9000/lab/a/backup-2026-05-03-10-00-00?bucket=b&region=r&sc=0"
NOTES = (Moment(100, 5_000, OLD), Moment(160, 65_000, OLD), Moment(1_000, 2_000, NEW), Moment(1_060, 8_000, NEW))
SEEN = RestoreSeen(
    available=True,
    stored_bytes=3 << 20,
    version=100_000,
    backup=RUNNING,
    reach={OLD: (4_000, 70_000), NEW: (1_000, 9_000)},
    notes=NOTES,
)


def actions(seen: RestoreSeen, target: RestoreTarget) -> list[str]:
    found = plan.plan(seen, target)
    assert found.refusals == ()
    return [step.action for step in found.steps]


def refusal(seen: RestoreSeen, target: RestoreTarget) -> str:
    found = plan.plan(seen, target)
    assert found.steps == ()
    return " / ".join(found.refusals)


# --- status


def test_a_running_backup_is_read():
    document = {
        "Status": {"Running": True},
        "Restorable": True,
        "LatestRestorablePoint": {"Version": 9_000, "EpochSeconds": 1_100, "LagSeconds": 20},
        "DestinationURL": NEW,
        "Errors": [],
    }
    assert status.parse(f"a warning\n{json.dumps(document)}") == RUNNING
    assert status.parse(json.dumps(document | {"Restorable": False})).restorable == 0


def test_a_lag_that_is_not_said_is_unknown() -> None:
    document = {"Restorable": True, "LatestRestorablePoint": {"Version": 9_000, "EpochSeconds": 1_100}}
    assert status.parse(json.dumps(document)).lag_seconds is None


@pytest.mark.parametrize("text", ["", "No previous backups found.", "{half"])
def test_what_cannot_be_read_is_no_backup(text):
    assert status.parse(text) == Backup()


def test_a_time_between_two_notes_is_a_version_between_theirs():
    assert status.version_at(list(NOTES), 130) == Moment(130, 35_000, OLD)
    assert status.version_at(list(NOTES), 160) == Moment(160, 65_000, OLD)


def test_between_two_backups_it_is_the_end_of_the_first():
    assert status.version_at(list(NOTES), 500) == Moment(500, 65_000, OLD)


def test_a_time_that_no_backup_reaches_is_none():
    assert status.version_at(list(NOTES), 99) is None
    assert status.version_at(list(NOTES), 1_061) is None


def test_notes_are_read_and_half_written_ones_left_out():
    lines = [f"160 65000 {OLD}", f"100 5000 {OLD}", "170 66", ""]
    assert status.moments(lines) == [NOTES[0], NOTES[1]]


@pytest.mark.parametrize(
    ("url", "wanted", "same"),
    [
        ("file:///backup/backup-2026-05-02-10-00-00.1", "file:///backup", True),
        ("file:///backup//backup-2026-05-02", "file:///backup/", True),
        ("file:///backup2/backup-2026-05-02", "file:///backup", False),
        ("file:///backup/old/backup-2026-05-02", "file:///backup", False),
        (STORED, STORE, True),
        (STORED, STORE.replace("=b&", "=b2&"), False),
        (STORED, STORE.replace("s3", "s4"), False),
        (STORE, STORE, False),
        ("file:///backup/backup-1", STORE, False),
        (STORED, "file:///backup", False),
    ],
)
def test_a_backup_goes_to_where_the_data_say_or_to_another_place(url, wanted, same):
    assert status.goes_to(url, wanted) is same


# --- upkeep


SEED = cluster_file.parse("a:b@192.0.2.31:4500", "here")


class NoAuthority:
    """Makes no certificates: without fdb_tls nobody asks."""


def upkeep_files(**data) -> dict:
    made = cluster(fdb_backup_keep_days=2, **data)
    return config.files(made.hosts["metrics1"], SEED, NoAuthority())


def upkeep(tmp_path: Path, *arguments: str) -> str:
    """Run it beside a database whose backup has reached version 9000; what it asked FoundationDB's tools for."""
    document = {
        "LatestRestorablePoint": {"Version": 9000, "EpochSeconds": 1100, "Timestamp": "x"},
        "DestinationURL": NEW,
    }
    (tmp_path / "status").write_text(json.dumps(document, separators=(",", ":")))
    runuser = (
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\ncase "$*" in *" status "*) cat {tmp_path}/status ;; esac\n'
    )
    (tmp_path / "runuser").write_text(runuser)
    (tmp_path / "runuser").chmod(0o755)
    script = upkeep_files()[config.UPKEEP].content.replace(config.TIMES, f"{tmp_path}/times")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", script, "upkeep", *arguments], check=True, env=environment, timeout=20)
    return (tmp_path / "asked").read_text()


def test_each_minute_notes_a_time_once_and_expires_nothing(tmp_path):
    assert "expire" not in upkeep(tmp_path) + upkeep(tmp_path)
    assert (tmp_path / "times").read_text() == f"1100 9000 {NEW}\n"


def test_notes_that_are_too_old_go(tmp_path):
    (tmp_path / "times").write_text("".join(f"{at} 1 {OLD}\n" for at in range(3 * 24 * 60)))
    upkeep(tmp_path)
    lines = (tmp_path / "times").read_text().splitlines()
    assert (len(lines), lines[-1]) == (2 * 24 * 60, f"1100 9000 {NEW}")


def test_what_is_old_expires_at_whatever_hour_the_timer_runs_it(tmp_path):
    assert f"-d {NEW} --delete-before-days 2" in upkeep(tmp_path, "expire")


def test_it_expires_once_a_day_also_on_a_host_that_was_off_at_that_time(tmp_path):
    files = upkeep_files()
    timers = {
        Path(path).name: file.content for path, file in files.items() if path.endswith((".timer", ".service"))
    }
    assert {*config.TIMERS} <= timers.keys()
    for name, content in timers.items():
        (tmp_path / name).write_text(content.replace(config.UPKEEP, "/bin/true"))
    expire = timers["griddle-backup-expire.timer"].splitlines()
    assert "OnCalendar=daily" in expire and "Persistent=true" in expire
    assert f"ExecStart={config.UPKEEP} expire" in timers["griddle-backup-expire.service"].splitlines()
    for timer in config.TIMERS:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / timer)], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


# --- an object store


def test_what_a_store_lists_is_known_by_the_url_that_it_was_begun_with():
    """It says neither the region nor the parameters in their order, and holds other clusters' backups."""
    listed = [
        "blobstore://k@s3:9000/lab/a/backup-2026-05-03-10-00-00?bucket=b&sc=0",
        "blobstore://k@s3:9000/lab/b/backup-2026-05-03-11-00-00?bucket=b&sc=0",
        "blobstore://k@s3:9000/lab/a/old/backup-2026-05-03-11-00-00?bucket=b&sc=0",
        "",
    ]
    assert status.urls(listed, [], STORE) == [STORED]
    assert status.urls(listed, ["", NEW, STORED, NEW], STORE) == [NEW, STORED], "those of a URL before"
    assert status.urls([NEW, OLD], [STORED], "file:///backup") == [OLD, NEW, STORED]


def begun(tmp_path: Path, url: str, **options) -> list[str]:
    """The words of FoundationDB's tools, run one after the other, to begin a backup."""
    (tmp_path / "runuser").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n')
    for name in ("chown", "runuser"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o755)
    script = config.begin_command({**cluster().data, "fdb_backup_url": url}, **options)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", script], check=True, env=environment, timeout=20)
    lines = (tmp_path / "asked").read_text().splitlines()
    return [line.partition("/bin/fdbbackup ")[2] for line in lines if "/bin/fdbbackup" in line]


def test_each_backup_has_a_place_of_its_own_in_the_store(tmp_path):
    ask, start = begun(tmp_path, STORE)
    assert ask.startswith("list -b blobstore://k@s3:9000/?bucket=b&region=r&sc=0&connect_tries=3 ")
    url = start.rpartition("-d ")[2]
    assert status.goes_to(url, STORE) and status.name(url) > status.name(STORED)


def test_another_backup_is_ended_only_when_the_store_of_the_new_one_has_answered(tmp_path):
    assert [words.split()[0] for words in begun(tmp_path, STORE, instead=True)] == ["list", "abort", "start"]


def test_a_directory_gets_its_name_from_foundationdb(tmp_path):
    (start,) = begun(tmp_path, "file:///backup")
    assert start.endswith("-d file:///backup")


ACCOUNTS = {"accounts": {"k@s3": {"secret": "hush"}}}


def credentials(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "credentials.json"
    path.write_text(text)
    path.chmod(mode)
    files = upkeep_files(fdb_backup_url=STORE, fdb_backup_credentials=str(path))
    return files[object_store.CREDENTIALS].content


def test_credentials_are_the_agents_own(tmp_path):
    assert json.loads(credentials(tmp_path, json.dumps(ACCOUNTS))) == ACCOUNTS
    file = upkeep_files()[object_store.CREDENTIALS]
    assert (file.mode, file.owner, file.group) == ("600", "foundationdb", "foundationdb")
    assert json.loads(file.content) == {"accounts": {}}, "those that the data name no more go"


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("hush", 0o600, "another form"),
        ('{"accounts": {"k@s3": "hush"}}', 0o600, "another form"),
        ('{"accounts": ["hush"]}', 0o600, "another form"),
        (json.dumps({"accounts": {"k@s3:9000": {"secret": "hush"}}}), 0o600, "has no account k@s3 "),
        (json.dumps(ACCOUNTS), 0o640, "chmod 600"),
    ],
)
def test_bad_credentials_are_said_in_a_line_without_them(tmp_path, text, mode, words):
    with pytest.raises(UserError, match=words) as refused:
        credentials(tmp_path, text, mode)
    assert "hush" not in str(refused.value) and "\n" not in str(refused.value)


def test_the_agents_trust_the_store_and_with_fdb_tls_the_cluster(tmp_path):
    class Bundle:
        def bundle(self) -> str:
            return "ours\n"

    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\ntheirs\n")
    data = {"fdb_backup_url": STORE, "fdb_backup_credentials": "", "fdb_backup_ca": str(path)}
    assert object_store.files({**data, "fdb_tls": False}, Bundle())[object_store.CA].content == path.read_text()
    both = object_store.files({**data, "fdb_tls": True}, Bundle())
    assert both[object_store.CA].content == f"ours\n{path.read_text()}"
    assert f"FDB_TLS_CA_FILE={object_store.CA}" in both[object_store.ENVIRONMENT].content
    path.write_text("key")
    with pytest.raises(UserError, match="holds no certificate"):
        object_store.files({**data, "fdb_tls": False}, Bundle())


# --- restore


def test_a_restore_ends_the_backup_and_begins_the_next():
    assert actions(SEEN, RestoreTarget(version=60_000, replace=True)) == [
        "end",
        "replace_data",
        "wait",
        "begin_next",
    ]
    assert plan.source(SEEN, RestoreTarget(version=60_000)).url == OLD


def test_a_database_that_was_created_anew_counts_on_beyond_what_is_restored():
    young = replace(SEEN, version=3_000, empty=True)
    assert actions(young, RestoreTarget(version=60_000)) == [
        "end",
        "advance",
        "replace_data",
        "wait",
        "begin_next",
    ]


def test_of_two_backups_with_the_same_version_the_younger_is_meant():
    assert plan.source(SEEN, RestoreTarget(version=8_500)).url == NEW


def test_data_are_destroyed_only_where_it_was_asked_for():
    assert "the database is not empty (3.0 MiB" in refusal(SEEN, RestoreTarget(version=60_000))
    assert actions(replace(SEEN, empty=True), RestoreTarget(version=60_000))[1] == "replace_data"


@pytest.mark.parametrize(
    ("changes", "target", "expected"),
    [
        ({"available": False}, RestoreTarget(version=60_000), "not available"),
        (
            {},
            RestoreTarget(version=80_000),
            "there are the versions backup-2026-05-01: 4000 to 70000; backup-2026-",
        ),
        ({}, RestoreTarget(at=50), "times are known from 1970-01-01T00:01:40Z to 1970-01-01T00:17:40Z"),
        (
            {"locked": True},
            RestoreTarget(version=60_000, replace=True),
            "the database is locked, and not by a restore",
        ),
        (
            {"restore": Restore("running", OLD, 50_000), "locked": True},
            RestoreTarget(version=60_000, replace=True),
            "another restore is under way, to version 50000",
        ),
    ],
)
def test_a_restore_is_refused(changes, target, expected):
    assert expected in refusal(replace(SEEN, **changes), target)


def test_it_goes_on_from_wherever_it_was_interrupted():
    target = RestoreTarget(version=60_000, replace=True)
    ended = replace(SEEN, backup=Backup())
    assert actions(ended, target) == ["replace_data", "wait", "begin_next"]
    going = replace(ended, locked=True, restore=Restore("running", OLD, 60_000))
    assert actions(going, RestoreTarget(version=60_000)) == ["wait", "begin_next"]
    done = replace(ended, restore=Restore("completed", OLD, 60_000), submitted=(60_000, OLD))
    assert actions(done, RestoreTarget(version=60_000)) == ["begin_next"]


def test_the_same_restore_once_more_is_a_restore():
    again = replace(SEEN, restore=Restore("completed", OLD, 60_000))
    assert actions(again, RestoreTarget(version=60_000, replace=True))[0] == "end"


# --- times on the command line


def test_a_time_says_its_zone():
    assert seconds_of("2026-05-17T14:03:00+02:00") == seconds_of("2026-05-17T12:03:00Z") == 1_779_019_380
    with pytest.raises(UserError, match="has no zone"):
        seconds_of("2026-05-17T14:03:00")
    with pytest.raises(UserError, match="a time such as"):
        seconds_of("yesterday")


# --- what is compared of a large database


def test_boundaries_of_shards_are_spelt_so_that_no_byte_ends_a_word():
    shown = [
        "",
        "Range limited to 10000 keys",
        "`\\xff/keyServers/'",
        "`\\xff/keyServers/log/\\x00\\x1a a\"\\\\'",
        "`\\xff/keyServers/\\xff/conf/'",
        "`\\xff/other/x'",
    ]
    spelt = "".join(f"\\x{byte:02x}" for byte in b'log/\x00\x1a a"\\')
    assert config.boundaries(shown) == ['""', spelt]


def test_a_part_says_what_it_is():
    assert str(config.Part()) == "everything"
    assert str(config.Part("\\x61", 10_000)) == "up to 10,000 keys from \\x61 on"
