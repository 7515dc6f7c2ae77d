"""What the backup's data must be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from cluster.check import Checks
from cluster.data import RUN, Setting
from cluster.forms import LINE, SIZE, YES_OR_NO, Form, one_of, or_empty, or_none, whole
from cluster.model import Cluster, Host
from deploys.backup import object_store
from deploys.backup.config import SCRATCH_PORT
from deploys.foundationdb import checks as foundationdb

_BACKUP_URL = Form(
    "file:///DIRECTORY, or blobstore://KEY@HOST/NAME?bucket=BUCKET&region=REGION without a secret",
    lambda value: bool(
        re.fullmatch(r"file:///[^\x00-\x20\x7f/][^\x00-\x20\x7f]*", value) or object_store.place(value)
    ),
)

SETTINGS = {
    # Shown to nobody, for somebody may write a secret into it.
    "fdb_backup_url": Setting(or_empty(_BACKUP_URL, "no backup"), secret=True),
    "fdb_backup_credentials": Setting(or_empty(LINE, "no account")),
    "fdb_backup_ca": Setting(or_empty(LINE, "no TLS to it")),
    "fdb_backup_snapshot_seconds": Setting(whole(1, 366 * 86400)),
    "fdb_backup_keep_days": Setting(whole(1, 3660)),
    "fdb_backup_agents": Setting(whole(1, 99)),
    "fdb_backup_memory": Setting(SIZE),
    "backup": Setting(one_of("now", "verify"), RUN, "", meaning="fdb_backup: which of both"),
    "to_version": Setting(or_none(whole(1, 2**63 - 1)), RUN, "", meaning="fdb_restore: the version"),
    "to_time": Setting(or_none(LINE), RUN, "", meaning="fdb_restore: the time"),
    "replace_data": Setting(YES_OR_NO, RUN, "", meaning="fdb_restore: destroy what is there"),
}


def faults(cluster: Cluster) -> Iterator[str]:
    data = cluster.data
    if cluster.store_engine != "fdb":
        return
    yield from object_store.faults(data)
    if data["fdb_backup_url"] and data["fdb_backup_snapshot_seconds"] > data["fdb_backup_keep_days"] * 86400:
        yield (
            f"fdb_backup_snapshot_seconds is {data['fdb_backup_snapshot_seconds']}: longer than "
            f"fdb_backup_keep_days, {data['fdb_backup_keep_days']}; nothing could be restored in between"
        )


def ports(cluster: Cluster, host: Host) -> Iterator[tuple[int, str]]:
    if cluster.store_engine == "fdb" and "metrics" in host.groups and host.data["fdb_backup_url"]:
        yield SCRATCH_PORT, "the database that fdb backup verify restores into"


def files(cluster: Cluster) -> Iterator[Callable[[], object]]:
    """FoundationDB's packages, and the object store's credentials."""
    yield from foundationdb.files(cluster)
    if cluster.store_engine == "fdb" and cluster.data["fdb_backup_url"]:
        yield lambda: object_store.check(cluster.data)


CHECKS = Checks(settings=SETTINGS, faults=faults, ports=ports, files=files)
