"""FoundationDB's backup in an object store over TLS: through bad input, an outage, a whole restore, and back to a
directory, with the store's secret nowhere but in its two files.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploys.backup import object_store
from deploys.foundationdb import config
from tests.lab.conftest import LabUnderTest, report
from tests.lab.object_store import ObjectStore
from tests.lab.test_foundationdb import APPLY, SERVERS
from tests.lab.test_foundationdb_members import Writers, digest, settled

pytestmark = pytest.mark.long
APPLY_BACKUP = (*APPLY, "component=backup")


class Data:
    """The lab's own group_data, with other values for the backup at its end."""

    def __init__(self, lab: LabUnderTest) -> None:
        self._file = lab.checkout / "inventory" / "group_data" / "lab.py"
        self._before = self._file.read_text()

    def set(self, **values: str) -> None:
        self._file.write_text(self._before + "".join(f"{key} = {value!r}\n" for key, value in values.items()))


class Watch:
    """What shows a secret meanwhile: processes of this machine, among which those of its containers are."""

    def __init__(self, secret: str) -> None:
        self._secret, self._stop, self.seen = secret.encode(), threading.Event(), set()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    for kind in ("cmdline", "environ"):
                        if self._secret in (content := (process / kind).read_bytes()):
                            self.seen.add(content)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


def status(lab: LabUnderTest) -> dict[str, Any]:
    return json.loads(lab.griddle("fdb", "backup", "status", "--json").stdout)


@pytest.fixture(scope="module")
def store(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """On this machine, with a certificate of a CA of its own; the lab's data are as before afterwards."""
    if lab.status()["store"] != "fdb":
        pytest.skip("FoundationDB's packages cannot be had here, so the lab has no FoundationDB hosts")
    lab.griddle("up")
    with ObjectStore(lab.plan.gateway, "backups", tmp_path_factory.mktemp("store")) as made:
        data = Data(lab)
        yield made
        data.set()
        lab.pyinfra(*APPLY_BACKUP)


def test_what_is_wrong_with_the_store_is_said_and_the_running_backup_goes_on(
    lab: LabUnderTest, store: ObjectStore
) -> None:
    data, good = Data(lab), store.data
    wrong = {
        "SignatureDoesNotMatch": good,
        "NoSuchBucket": good | {"fdb_backup_url": good["fdb_backup_url"].replace("=backups&", "=none&")},
        "connection_failed": good | {"fdb_backup_url": good["fdb_backup_url"].replace(f":{store.port}/", ":9/")},
        "VerifyError": good | {"fdb_backup_ca": str(store.files / "crt")},
    }
    for words, each in wrong.items():
        store.write_credentials("wrong" if each is good else store.secret)
        data.set(**each)
        refused = lab.pyinfra(*APPLY_BACKUP, check=False)
        assert refused.returncode and words in refused.stdout + refused.stderr, refused.stdout + refused.stderr
        assert status(lab)["running"], words
    store.write_credentials(store.secret)
    data.set(**good | {"fdb_backup_url": good["fdb_backup_url"].replace("@", f":{store.secret}@")})
    refused = lab.pyinfra(*APPLY_BACKUP, check=False)
    assert refused.returncode == 2 and "without a secret" in refused.stderr
    assert store.secret not in refused.stdout + refused.stderr


def test_from_a_directory_to_a_store_and_what_was_before_stays_restorable(
    lab: LabUnderTest, store: ObjectStore
) -> None:
    with Watch(store.secret) as watch:
        lab.griddle("fdb", "backup", "now")
        before = status(lab)
        assert before["url"].startswith("file://")
        Data(lab).set(**store.data)
        said = ""
        for options in (("--dry", "--diff"), ("--debug",), ()):
            done = lab.pyinfra(*options, *APPLY_BACKUP)
            said += done.stdout + done.stderr
        assert "it stays restorable, up to version" in said
        assert lab.changes("backup") == {}
        lab.griddle("fdb", "backup", "now")
        lab.griddle("fdb", "backup", "verify")
    seen = status(lab)
    assert seen["url"].startswith(f"blobstore://{store.key}@") and seen["running"] and seen["bytes"] is None
    earlier = next(each for each in seen["earlier"] if each["url"] == before["url"])
    restore = ("fdb", "restore", "--to-version", str(earlier["restorable_version"]), "--replace", "--dry")
    planned = lab.griddle(*restore)
    assert before["url"] in planned.stdout + planned.stderr
    assert store.secret not in said and not watch.seen
    assert any(name.startswith("data/lab/backup-") for name in store.names())


def test_a_store_that_is_away_is_said_and_the_backup_catches_up(lab: LabUnderTest, store: ObjectStore) -> None:
    store.stop()
    end = time.monotonic() + 300
    while not (seen := status(lab))["errors"]:
        assert time.monotonic() < end
        time.sleep(5)
    assert "connection failed" in seen["errors"][0] and seen["running"] and seen["lag_seconds"] > 30
    store.start()
    lab.griddle("fdb", "backup", "now")
    assert not status(lab)["errors"]


def test_the_database_is_restored_from_the_store_byte_for_byte(lab: LabUnderTest, store: ObjectStore) -> None:
    with Writers(lab) as writers:
        time.sleep(5)
    writers.assert_all_there()
    before = settled(lab)
    with Watch(store.secret) as watch:
        lab.griddle("fdb", "backup", "now")
        version = str(report(lab)["steps"][-1]["restorable_version"])
        for host in SERVERS:
            lab.ssh(host, f"sudo systemctl stop {config.UNIT} && sudo find {config.DATA}/data -mindepth 1 -delete")
        for component in ("foundationdb", "backup"):
            lab.pyinfra(*APPLY, f"component={component}")  # another database, empty
        lab.griddle("fdb", "restore", "--to-version", version, "--replace")
    assert digest(lab) == before
    writers.assert_all_there()
    places = {name.split("/")[2] for name in store.names() if name.startswith("data/lab/")}
    assert len(places) == 3 and status(lab)["running"], "each backup has a place of its own"
    assert not watch.seen


def test_the_secret_is_nowhere_else(lab: LabUnderTest, store: ObjectStore) -> None:
    look = "sudo grep -rlsF -f - /etc /home /opt/griddle /root /run /tmp /usr/local /var"
    for host in ("metrics1", "fdb1", "app1"):
        found = lab.ssh(host, f"echo '{store.secret}' | {look}", check=False).stdout.split()
        assert found == ([object_store.CREDENTIALS] if host == "metrics1" else [])
        journal = f"sudo journalctl --no-pager -o export | grep -cF -- '{store.secret[:20]}'"
        assert lab.ssh(host, journal, check=False).stdout.strip() == "0"
    mode = lab.ssh("metrics1", f"sudo stat -c '%a %U' {object_store.CREDENTIALS}").stdout.split()
    assert mode == ["600", "foundationdb"]
    for directory, below, names in os.walk(lab.checkout):
        below[:] = [name for name in below if name not in ("hosts", "venv", "releases", "tests")]
        for path in (Path(directory) / name for name in names):
            assert path.is_symlink() or store.secret.encode() not in path.read_bytes(), path
