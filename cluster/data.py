"""The table of all data: each key's form, whose it is, and whether it is a secret.

Its default and its meaning are in inventory/group_data: a key's comment there is its meaning. `./griddle data` and
docs/data.md (`python -m ops.data > docs/data.md`) put both together.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass

from cluster import model
from cluster.forms import (
    ADDRESS,
    FILE_NAME,
    HOST_NAME,
    JOURNAL_SIZE,
    LINE,
    NAME,
    NETWORK,
    PATH,
    PORT,
    PUBLIC_KEY,
    RETENTION,
    SIZE,
    TIME,
    URL,
    USER,
    YES_OR_NO,
    AnyForm,
    Form,
    ListOf,
    MapOf,
    one_of,
    or_empty,
    or_none,
    share,
    text,
    whole,
)
from deploys.backup.object_store import place
from deploys.foundationdb.config import CLASSES, PROCEDURES, REPLICAS
from deploys.metrics.config import LATENCY_BUCKETS_MS
from services.config import LIMITS

CLUSTER = "cluster"  # one value for all hosts
HOST = "host"  # hosts may differ
RUN = "run"  # of one run: --data alone


@dataclass(frozen=True)
class Setting:
    """One key. `on`: the group whose hosts must have it; "": nobody must. `meaning`: where group_data has none."""

    form: AnyForm
    scope: str = CLUSTER
    on: str = "all"
    secret: bool = False
    meaning: str = ""


def _limited(key: str) -> Form:
    """The bounds that the services check."""
    return whole(*LIMITS[key])


def _is_interval(value: object) -> bool:
    return type(value) is int and 50 <= value <= 5000 and value % 10 == 0


def _networks(least: int) -> ListOf:
    return ListOf(
        NETWORK, "a list of networks such as ['10.0.0.0/8']" + (", at least one" if least else ""), least
    )


_COUNT = whole(1, 1000)
_MILLISECONDS = whole(1, 65535)
_SECONDS = whole(1, 86400)
_ENGINES_OF_FDB = ("ssd", "ssd-1", "ssd-2", "ssd-redwood-1", "ssd-rocksdb-v1", "ssd-sharded-rocksdb", "memory")
_BACKUP_URL = Form(
    "file:///DIRECTORY, or blobstore://KEY@HOST/NAME?bucket=BUCKET&region=REGION without a secret",
    lambda value: bool(re.fullmatch(r"file:///[^\x00-\x20\x7f/][^\x00-\x20\x7f]*", value) or place(value)),
)
_KNOB_VALUE = Form(
    "a number, True, False or a word",
    lambda value: type(value) in (int, float, bool) or not [*text(r"[!-~]+", "").faults(value)],
)

SETTINGS: dict[str, Setting] = {
    "ssh_user": Setting(USER, HOST),
    "cluster_name": Setting(NAME),
    # --- base
    "base_profile": Setting(FILE_NAME, HOST),
    "base_deploy_keys": Setting(ListOf(PUBLIC_KEY, "a list of public keys"), HOST),
    "base_journal_max": Setting(JOURNAL_SIZE, HOST),
    "base_data_disks": Setting(
        MapOf(PATH, text(r"/dev/[^\x00-\x20\x7f]+", "a device such as /dev/nvme1n1"), "{mount point: device}"),
        HOST,
    ),
    # --- firewall
    "firewall_ssh_from": Setting(_networks(1)),
    "firewall_ssh_port": Setting(or_none(PORT, "ssh_port, else 22"), HOST),
    # --- store
    "store_engine": Setting(one_of(*model.ENGINES)),
    "store_port": Setting(PORT, HOST),
    "store_workers": Setting(_limited("store.workers"), HOST),
    "store_max_batch": Setting(_limited("store.max_batch"), HOST),
    "store_value_limit_bytes": Setting(_limited("store.value_limit_bytes")),
    # --- front
    "front_port": Setting(PORT, HOST),
    "front_workers": Setting(_limited("front.workers"), HOST),
    "front_backlog": Setting(_limited("front.backlog"), HOST),
    # --- feed
    "feed_poll_ms": Setting(_limited("feed.poll_ms"), HOST),
    # --- app
    "app_slots": Setting(
        MapOf(one_of(*model.SLOTS), or_empty(FILE_NAME, "none"), "{slot: release}, slots a and b")
    ),
    "app_keep_releases": Setting(_COUNT, HOST),
    # --- proxy
    "proxy_virtual_ip": Setting(ADDRESS),
    "proxy_interface": Setting(or_empty(text(r"[!-.0-~]{1,15}", "a network interface"), "by the address"), HOST),
    # VRRP's unit is a hundredth of a second; lost are three intervals and a part of one
    "proxy_advert_ms": Setting(Form("a multiple of 10 from 50 to 5000", _is_interval)),
    "proxy_port": Setting(PORT),
    "proxy_lane": Setting(one_of("direct", "wsgi")),
    "proxy_lane_override": Setting(YES_OR_NO),
    "proxy_deadline_ms": Setting(_limited("proxy.deadline_ms")),
    "proxy_waiting_limit": Setting(_limited("proxy.waiting_limit"), HOST),
    # --- etcd
    "etcd_client_port": Setting(PORT),
    "etcd_peer_port": Setting(PORT),
    "etcd_heartbeat_ms": Setting(whole(10, 10_000)),
    "etcd_election_ms": Setting(whole(50, 50_000)),  # etcd's own upper limit
    "etcd_quota_bytes": Setting(whole(1024**2, 64 * 1024**3)),
    "etcd_snapshot_every": Setting(TIME),
    "etcd_snapshots_kept": Setting(_COUNT),
    # --- fdb
    "fdb_version": Setting(text(r"[0-9]+\.[0-9]+\.[0-9]+", "a version such as 7.3.77")),
    "fdb_port": Setting(PORT),
    "fdb_redundancy": Setting(one_of(*REPLICAS)),
    "fdb_engine": Setting(one_of(*_ENGINES_OF_FDB)),
    "fdb_tls": Setting(YES_OR_NO),
    # Shown to nobody, for somebody may write a secret into it.
    "fdb_backup_url": Setting(or_empty(_BACKUP_URL, "no backup"), secret=True),
    "fdb_backup_credentials": Setting(or_empty(LINE, "no account")),
    "fdb_backup_ca": Setting(or_empty(LINE, "no TLS to it")),
    "fdb_backup_snapshot_seconds": Setting(whole(1, 366 * 86400)),
    "fdb_backup_keep_days": Setting(whole(1, 3660)),
    "fdb_backup_agents": Setting(whole(1, 99)),
    "fdb_backup_memory": Setting(SIZE),
    "fdb_rolling": Setting(YES_OR_NO),
    "fdb_procedure": Setting(one_of(*PROCEDURES)),
    "fdb_cut_off": Setting(YES_OR_NO),
    "fdb_workers_away": Setting(share()),
    "fdb_recovered_seconds": Setting(whole(0, 10**9)),
    "fdb_process_classes": Setting(
        ListOf(one_of(*CLASSES), "a list of process classes, at least one", 1), HOST, "fdb"
    ),
    "fdb_memory": Setting(SIZE, HOST, "fdb"),
    "fdb_cache_memory": Setting(SIZE, HOST, "fdb"),
    "fdb_storage_memory": Setting(SIZE, HOST, "fdb"),
    "fdb_log_size": Setting(SIZE, HOST, "fdb"),
    "fdb_logs_size": Setting(SIZE, HOST, "fdb"),
    "fdb_open_files": Setting(whole(1024, 2**30), HOST, "fdb"),
    "fdb_knobs": Setting(
        MapOf(text(r"[A-Za-z0-9_]+", "a knob's name"), _KNOB_VALUE, "{knob: value}"), HOST, "fdb"
    ),
    "fdb_health_seconds": Setting(_SECONDS, HOST, "fdb"),
    # --- metrics
    "metrics_statsd_port": Setting(PORT),
    "metrics_graphite_port": Setting(PORT),
    "metrics_http_port": Setting(PORT),
    "metrics_memory": Setting(SIZE, HOST, "metrics"),
    "metrics_retention": Setting(RETENTION),
    "metrics_promise_ms": Setting(one_of(*LATENCY_BUCKETS_MS)),
    "metrics_promise_share": Setting(share()),
    "metrics_board_port": Setting(PORT),
    "metrics_board_from": Setting(_networks(0)),
    "metrics_board_note": Setting(LINE),
    # --- notify
    "notify_webhook_url": Setting(or_empty(URL, "nowhere"), secret=True),
    # --- a host's own, in the inventory
    "address": Setting(ADDRESS, HOST, meaning="inside the cluster; every host needs its own"),
    # --- what deploys/fdb_*.py are asked to do
    "lock_wait": Setting(whole(0, 86_400), RUN, "", meaning="seconds to wait for another run to end"),
    "component": Setting(LINE, RUN, "", meaning="only these components, parted by commas"),
    "join": Setting(
        or_empty(HOST_NAME, "nobody"), RUN, "", meaning="fdb_members: who becomes a part of the database"
    ),
    "leave": Setting(or_empty(HOST_NAME, "nobody"), RUN, "", meaning="fdb_members: who leaves it"),
    "coordinators": Setting(LINE, RUN, "", meaning="fdb_members: auto, or hosts parted by commas"),
    "backup": Setting(one_of("now", "verify"), RUN, "", meaning="fdb_backup: which of both"),
    "to_version": Setting(or_none(whole(1, 2**63 - 1)), RUN, "", meaning="fdb_restore: the version"),
    "to_time": Setting(or_none(LINE), RUN, "", meaning="fdb_restore: the time"),
    "replace_data": Setting(YES_OR_NO, RUN, "", meaning="fdb_restore: destroy what is there"),
    "etcd_join": Setting(LINE, RUN, "", meaning="etcd_members: who becomes a member, parted by commas"),
    "etcd_leave": Setting(LINE, RUN, "", meaning="etcd_members: who is one no longer, parted by commas"),
    "etcd_snapshot": Setting(LINE, RUN, "", meaning="etcd_restore: which, HOST:PATH"),
}

# How pyinfra reaches hosts; its own documentation has the meaning.
_SSH: dict[str, AnyForm] = {
    "ssh_hostname": text(r"[!-~]+", "a host's name or address"),
    "ssh_port": PORT,
    "ssh_password": LINE,
    "ssh_key": LINE,
    "ssh_key_password": LINE,
    "ssh_allow_agent": YES_OR_NO,
    "ssh_look_for_keys": YES_OR_NO,
    "ssh_forward_agent": YES_OR_NO,
    "ssh_config_file": LINE,
    "ssh_known_hosts_file": LINE,
    "ssh_strict_host_key_checking": one_of("yes", "no", "accept-new", "off", "ask"),
    "ssh_paramiko_connect_kwargs": MapOf(NAME, Form("anything", lambda value: True), "paramiko's arguments"),
    "ssh_connect_retries": whole(0, 100),
    "ssh_connect_retry_min_delay": Form("seconds", lambda value: type(value) in (int, float) and value >= 0),
    "ssh_connect_retry_max_delay": Form("seconds", lambda value: type(value) in (int, float) and value >= 0),
    "ssh_file_transfer_protocol": one_of("sftp", "scp"),
}
SETTINGS |= {
    key: Setting(or_none(form), HOST, "", "password" in key, "pyinfra's SSH connector")
    for key, form in _SSH.items()
}

# Keys of pyinfra's other connectors, by which tests and trials reach hosts that are none.
OTHER_CONNECTORS = ("docker_", "fake_")


@dataclass(frozen=True)
class Default:
    """A key as group_data has it for every cluster: the file's group, the value, the meaning."""

    group: str
    value: object
    meaning: str


def defaults() -> dict[str, Default]:
    """{key: its default}, of all.py and the groups' files, in their order.

    :raises UserError: one of them is not Python
    """
    found = {}
    for group in ("all", *model.GROUPS):
        values = model.group_data(group)
        meanings = comments((model.GROUP_DATA / f"{group}.py").read_text()) if values else {}
        found |= {key: Default(group, value, meanings.get(key, "")) for key, value in values.items()}
    return found


def comments(source: str) -> dict[str, str]:
    """{key: the comment at the end of its line, or in the lines just above}, of a file in group_data."""
    ends, whole_lines = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            (whole_lines if alone else ends)[token.start[0]] = token.string.lstrip("# ")
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            above, line = [], node.lineno - 1
            while line in whole_lines and not whole_lines[line].startswith("---"):
                above.insert(0, whole_lines[line])
                line -= 1
            found[node.targets[0].id] = ends.get(node.end_lineno or 0) or " ".join(above)
    return found
