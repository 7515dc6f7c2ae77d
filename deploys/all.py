"""The whole cluster. Each line: a component and the groups that it is for. Barriers part the tiers: below one,
nothing starts on any host before everything above it is done on all hosts.

    pyinfra inventory/prod.py deploys/all.py
    pyinfra --dry inventory/prod.py deploys/all.py
    pyinfra inventory/prod.py deploys/all.py --data component=proxy       # one component alone
"""

from cluster.model import cluster
from deploys.agent import deploy as agent
from deploys.app import deploy as app
from deploys.backup import deploy as backup
from deploys.base import deploy as base
from deploys.conductor.locking import locked
from deploys.conductor.marking import marked
from deploys.etcd import deploy as etcd
from deploys.firewall import deploy as firewall
from deploys.foundationdb import deploy as foundationdb
from deploys.framework.component import component
from deploys.framework.gates import barrier
from deploys.metrics import deploy as metrics
from deploys.proxy import deploy as proxy
from deploys.smoke.deploy import smoke

marked("deploy")
locked()
etcd.refuse_other_members()

# The metrics host asks the database for its state: the backup makes it a client, too.
backup_wanted = bool(cluster().data["fdb_backup_url"])
fdb = ("fdb", "apps") if backup_wanted else ("fdb", "apps", "metrics")
backed_up = ("metrics",) if backup_wanted else ("none",)
if cluster().store_engine != "fdb":
    fdb = backed_up = ("none",)

component(base)
component(firewall)
barrier(name="hosts | ready")

component(etcd, "etcd")
component(etcd.client, "apps", "proxies", "metrics")
component(foundationdb, *fdb)
component(backup, *backed_up)
component(metrics, "proxies", "apps", "etcd", "fdb", "metrics", "load")
barrier(name="stores | ready")

component(proxy.checked, "proxies")
barrier(name="configuration | ready")

component(app, "apps")
component(agent, "apps", "proxies")
barrier(name="services | ready")

component(proxy, "proxies")
barrier(name="proxies | ready")

component(smoke, "proxies", "etcd")
