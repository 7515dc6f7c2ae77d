"""A lost majority of etcd, restored on the hosts of group etcd; `./griddle etcd restore`.

    pyinfra inventory/prod.py deploys/etcd_restore.py                       # what has come farthest
    pyinfra inventory/prod.py deploys/etcd_restore.py --data etcd_snapshot=app1:/var/lib/X.db

Hosts that take the place of lost ones are in group etcd already, and are prepared by this. Afterwards an apply of
deploys/all.py makes what follows the members follow.
"""

from pyinfra import host

from deploys.base import deploy as base
from deploys.conductor.conduct import conducted, conducts, planned
from deploys.conductor.locking import locked
from deploys.etcd import deploy as etcd
from deploys.etcd.restore import Restore
from deploys.firewall import deploy as firewall
from deploys.framework.component import component
from deploys.framework.gates import barrier

wanted = str(host.data.get("etcd_snapshot") or "")
title = f"etcd restore {wanted}".strip()
locked(title)
verb = None
if conducts("etcd"):
    verb = Restore(title, wanted)
    planned(verb)  # what is refused ends here

component(base, "etcd")
component(firewall)
barrier(name="hosts | ready")
component(etcd.prepared, "etcd")
barrier(name="hosts | can be restored")
if verb:
    conducted(name=f"restore | {verb.title}", verb=verb)
