"""FoundationDB on one screen, also while it is down; `./griddle fdb status` runs this. It changes nothing.

pyinfra --fail-percent 100 -y inventory/prod.py deploys/fdb_status.py
"""

from deploys.conductor.conduct import conducts
from deploys.foundationdb.look import shown

if conducts("fdb", "apps"):
    shown(name="fdb status | the cluster is looked at")
