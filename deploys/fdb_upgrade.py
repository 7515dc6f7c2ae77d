"""Another version of FoundationDB on the running cluster; `./griddle fdb upgrade` runs this.

pyinfra inventory/prod.py deploys/fdb_upgrade.py --data fdb_version=7.3.78
pyinfra --dry inventory/prod.py deploys/fdb_upgrade.py --data fdb_version=7.3.78      # the plan alone
"""

from cluster.model import cluster
from deploys.conductor.conduct import conducted, conducts
from deploys.conductor.locking import locked
from deploys.foundationdb.upgrade import Upgrade

data = cluster().data
locked(f"fdb upgrade {data['fdb_version']}")
if conducts("fdb"):
    conducted(
        name=f"fdb upgrade | {data['fdb_version']}",
        verb=Upgrade(data["fdb_version"], data["fdb_rolling"], data["fdb_procedure"], data["fdb_cut_off"]),
    )
