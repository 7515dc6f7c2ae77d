"""`griddle fdb add`, `remove`, `replace`, `coordinators`: runs deploys/fdb_members.py on the hosts that answer."""

from __future__ import annotations

from pathlib import Path

from cluster.errors import UserError
from ops import hosts
from ops.fdb import run as runner


def run(
    checkout: Path,
    inventory: str,
    *,
    join: str = "",
    leave: str = "",
    choose: tuple[str, ...] = (),
    dry: bool = False,
) -> None:
    """See deploys/fdb_members.py. A FoundationDB host that is lost takes no part; one that is to join must."""
    cluster = hosts.cluster(checkout / inventory)
    named = [name for name in (join, leave, *choose) if name not in ("", "auto")]
    for name in named:
        hosts.host(cluster, name)
    if "auto" in choose and len(choose) > 1:
        raise UserError("fdb coordinators: either auto or names of hosts, not both")
    lost = runner.lost(cluster)
    if join in lost:
        raise UserError(f"{join} is to join, and does not answer by SSH: start it first")
    data = {"join": join, "leave": leave, "coordinators": ",".join(choose)}
    data = {key: value for key, value in data.items() if value}
    runner.run(checkout, inventory, "fdb_members", data, dry=dry, options=runner.without(lost))
