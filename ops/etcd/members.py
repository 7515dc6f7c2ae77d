"""`griddle etcd add`, `remove`, `replace`: deploys/etcd_members.py on the hosts that answer, then what follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.errors import Failure, UserError
from cluster.model import GROUPS
from cluster.progress import say
from ops import hosts
from ops.fdb import run as runner

FOLLOWERS = ("firewall", "etcd", "app", "agent")
"""Components that name etcd's members to somebody; metrics does, too, and waits for every host's."""


def run(
    checkout: Path, inventory: str, *, join: Sequence[str] = (), leave: Sequence[str] = (), dry: bool = False
) -> None:
    """See deploys/etcd_members.py. A host that is lost takes no part; one that is to join must."""
    cluster = hosts.cluster(checkout / inventory)
    for name in join:
        hosts.host(cluster, name)
    lost = runner.lost(cluster, GROUPS)
    for name in join:
        if name in lost:
            raise UserError(f"{name} is to join, and does not answer by SSH: start it first")
    data = {"etcd_join": ",".join(join), "etcd_leave": ",".join(leave)}
    data = {key: value for key, value in data.items() if value}
    runner.run(checkout, inventory, "etcd_members", data, dry=dry, options=runner.without(lost))
    if not dry:
        follow(checkout, inventory, lost)


def follow(checkout: Path, inventory: str, lost: Sequence[str]) -> None:
    """Services, metrics and firewall are told who the members are."""
    components = [*FOLLOWERS, *([] if lost else ["metrics"])]
    if lost:
        say(f"what metrics are asked from members follows with an apply that {', '.join(lost)} takes part in")
    data = {"component": ",".join(components)}
    try:
        runner.run(checkout, inventory, "all", data, options=runner.without(lost))
    except (UserError, Failure):
        raise Failure(
            "the members are as they shall be; services, metrics and firewall were not told, as is said above: "
            "mend that, then apply deploys/all.py"
        ) from None
