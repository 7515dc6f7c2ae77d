"""`griddle fdb add`, `remove`, `replace`, `coordinators`: runs deploys/fdb_members.py on the hosts that answer."""

from __future__ import annotations

from pathlib import Path

from ops import hosts
from ops.errors import UserError
from ops.fdb import run as runner
from ops.progress import say


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
        raise UserError("coordinators: auto, or the names of hosts")
    answers = hosts.run_on([*cluster.group("fdb"), *cluster.group("spare")], "true", hosts.CONNECT_SECONDS + 5)
    lost = [name for name, answer in answers.items() if answer is None]
    if join in lost:
        raise UserError(f"{join} does not answer by SSH: a host that is to join must be up")
    for name in lost:
        say(f"{name} does not answer by SSH: it takes no part")
    data = {"join": join, "leave": leave, "coordinators": ",".join(choose)}
    options = [word for name in lost for word in ("--exclude", name)]
    runner.run(checkout, inventory, "fdb_members", {k: v for k, v in data.items() if v}, dry=dry, options=options)
