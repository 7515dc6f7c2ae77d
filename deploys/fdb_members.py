"""Hosts and coordinators of the running FoundationDB; `./griddle fdb add`, `remove`, `replace`, `coordinators`.

    pyinfra inventory/prod.py deploys/fdb_members.py --data join=fdb6                       # add
    pyinfra inventory/prod.py deploys/fdb_members.py --data leave=fdb5                      # remove
    pyinfra inventory/prod.py deploys/fdb_members.py --data join=fdb6 --data leave=fdb5     # replace
    pyinfra inventory/prod.py deploys/fdb_members.py --data coordinators=auto

The inventory is edited first: who joins is in group fdb, who leaves in group spare.
"""

from pyinfra import host

from cluster.model import this_host
from deploys.base import deploy as base
from deploys.conductor.conduct import announced, conducted, conducts, planned
from deploys.conductor.locking import locked
from deploys.firewall import deploy as firewall
from deploys.foundationdb import deploy as foundationdb
from deploys.foundationdb.membership import Membership
from deploys.framework.component import component
from deploys.framework.gates import barrier

join, leave = (host.data.get(key) or "" for key in ("join", "leave"))
chosen = tuple(name for name in (host.data.get("coordinators") or "").split(",") if name)

what = "replace" if join and leave else "add" if join else "remove" if leave else "coordinators"
words = f"{leave} {join}" if join and leave else join or leave or " ".join(chosen)
title = f"fdb {what} {words}"
locked(title)
if join and "fdb" in this_host().groups:
    foundationdb.refuse_to_break(this_host().data["fdb_version"])  # it would join with that version
verb = None
if conducts("fdb"):
    verb = Membership(title, join, leave, chosen)
    planned(verb)  # what is refused ends here, before the host that is to join is touched

if join and this_host().name == join:
    component(base)
if join:
    component(firewall, "fdb", "spare", "apps", "metrics")
barrier(name="hosts | ready")
if join and this_host().name == join:
    foundationdb.install()
    foundationdb.configure()
barrier(name="host | can join")
if verb:
    announced(name=f"members | {verb.title} is announced", verb=verb)  # a host that joins costs a recovery
if join and this_host().name == join:
    foundationdb.start()
barrier(name="members | ready")
if verb:
    conducted(name=f"members | {verb.title}", verb=verb)
