"""etcd's members; `./griddle etcd add`, `remove`, `replace`.

    pyinfra inventory/prod.py deploys/etcd_members.py --data etcd_join=app4,app5                     # add
    pyinfra inventory/prod.py deploys/etcd_members.py --data etcd_leave=app5                         # remove
    pyinfra inventory/prod.py deploys/etcd_members.py --data etcd_leave=app3 --data etcd_join=app4   # replace

The inventory is edited first: who joins is in group etcd, who leaves is not. A host in both has lost its data.
Afterwards an apply of deploys/all.py makes what follows the members follow: services, metrics, firewall.
"""

from pyinfra import host

from cluster.model import this_host
from deploys.base import deploy as base
from deploys.conductor.conduct import conducted, conducts, planned
from deploys.conductor.locking import locked
from deploys.etcd import deploy as etcd
from deploys.etcd.membership import Membership
from deploys.firewall import deploy as firewall
from deploys.framework.component import component
from deploys.framework.gates import barrier

join, leave = (
    tuple(name for name in str(host.data.get(key) or "").split(",") if name) for key in ("etcd_join", "etcd_leave")
)

what = "replace" if join and leave else "add" if join else "remove"
title = f"etcd {what} {' '.join((*leave, *join))}"
locked(title)
verb = None
if conducts("etcd"):
    verb = Membership(title, join, leave)
    planned(verb)  # what is refused ends here, before the host that is to join is touched

if this_host().name in join:
    component(base)
component(firewall)
barrier(name="hosts | ready")
if this_host().name in join:
    etcd.prepared()
barrier(name="host | can join")
if verb:
    conducted(name=f"members | {verb.title}", verb=verb)
