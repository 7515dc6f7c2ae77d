"""The table of all data: each key's form, whose it is, and whether it is a secret.

Its default and its meaning are in inventory/group_data: a key's comment there is its meaning. `./griddle data` and
docs/data.md (`python -m ops.data > docs/data.md`) put both together.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass

from cluster import model
from cluster.forms import (
    ADDRESS,
    LINE,
    NAME,
    PORT,
    URL,
    USER,
    YES_OR_NO,
    AnyForm,
    Form,
    MapOf,
    one_of,
    or_empty,
    or_none,
    text,
    whole,
)
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


def limited(key: str) -> Form:
    """The bounds that the services check."""
    return whole(*LIMITS[key])


# Components add theirs (cluster/check.py).
SETTINGS: dict[str, Setting] = {
    "ssh_user": Setting(USER, HOST),
    "cluster_name": Setting(NAME),
    "store_engine": Setting(one_of(*model.ENGINES)),
    "notify_webhook_url": Setting(or_empty(URL, "nowhere"), secret=True),
    "address": Setting(ADDRESS, HOST, meaning="inside the cluster; every host needs its own"),
    "lock_wait": Setting(whole(0, 86_400), RUN, "", meaning="seconds to wait for another run to end"),
    "component": Setting(LINE, RUN, "", meaning="only these components, parted by commas"),
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
