"""`./griddle data`: every key of the data, what it takes, its default, its meaning, and a cluster's own values.

`python -m ops.data` prints docs/data.md.
"""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.data import CLUSTER, HOST, RUN, SETTINGS, defaults
from cluster.model import Cluster
from deploys import components  # noqa: F401  (components register their keys)
from ops import hosts

SCOPES = {CLUSTER: "one for the cluster", HOST: "each host's own", RUN: "of one run, by --data"}
TYPES = {key: setting.form.words for key, setting in SETTINGS.items()}
SECRET = "(a secret)"


def rows(cluster: Cluster | None = None) -> Iterator[dict[str, Any]]:
    """Every key: name, type, scope, default (where it has one), meaning; and `values` that are not the default.

    A value is {"value", "source", "hosts"}; a secret's is not shown.
    """
    known = defaults()
    for key in [*known, *(key for key in SETTINGS if key not in known)]:
        setting = SETTINGS[key]
        row: dict[str, Any] = {"name": key, "type": TYPES[key], "scope": setting.scope}
        if default := known.get(key):
            row |= {"default": default.value, "meaning": default.meaning}
        else:
            row |= {"meaning": setting.meaning}
        if cluster:
            row["values"] = _values(cluster, key, row)
        yield row


def _values(cluster: Cluster, key: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    values = {}
    for host in cluster.hosts.values():
        if key in host.data and ("default" not in row or host.data[key] != row["default"]):
            shown = SECRET if SETTINGS[key].secret and host.data[key] else host.data[key]
            source = host.sources[key]
            own = "its own data" if source.startswith("host ") else source
            found[repr(shown), own].append(host.name)
            values[repr(shown)] = shown
    return [{"value": values[shown], "source": source, "hosts": names} for (shown, source), names in found.items()]


def text(cluster: Cluster | None) -> Iterator[str]:
    """For people: a paragraph for each key."""
    for row in rows(cluster):
        default = f" = {row['default']!r}" if "default" in row else ""
        yield f"{row['name']}{default}"
        yield f"    {row['type']}; {SCOPES[row['scope']]}"
        yield from textwrap.wrap(row["meaning"], 110, initial_indent="    ", subsequent_indent="    ")
        for seen in row.get("values", ()):
            many = len(seen["hosts"]) == len(cluster.hosts) if cluster else False
            who = f"all {len(seen['hosts'])} hosts" if many else ", ".join(seen["hosts"])
            yield f"    here: {seen['value']!r} ({who}, by {seen['source']})"


def markdown() -> Iterator[str]:
    """docs/data.md."""
    yield "# Data"
    yield ""
    yield (
        "Every key of `inventory/group_data` and of hosts: made from `cluster/data.py` (what a key takes) and "
        "`inventory/group_data` (defaults, meanings). `./griddle data --inventory FILE` adds a cluster's values. "
        "What does not fit is refused before any host is touched. On the command line, text that looks like a "
        "number needs quotes of its own: `--data 'cluster_name=\"7\"'`."
    )
    component = ""
    for row in rows():
        group = row["name"].partition("_")[0]
        if group in ("ssh", "cluster") or "default" not in row:
            group = "cluster" if "default" in row else "hosts and runs"
        if group != component:
            component = group
            yield from (
                "",
                f"## {component}",
                "",
                "| key | default | takes | scope | meaning |",
                "|---|---|---|---|---|",
            )
        default = f"`{_code(row['default'])}`" if "default" in row else ""
        cells = [f"`{row['name']}`", default, row["type"], row["scope"], row["meaning"]]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def show(inventory: Path | None, *, as_json: bool) -> None:
    """Print it. Raises UserError where the inventory is refused."""
    cluster = hosts.cluster(inventory) if inventory else None
    if as_json:
        document = {"cluster": cluster.name if cluster else None, "keys": list(rows(cluster))}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print("\n".join(text(cluster)))


if __name__ == "__main__":
    print("\n".join(markdown()))
