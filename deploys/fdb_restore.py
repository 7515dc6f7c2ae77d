"""FoundationDB as it was; `./griddle fdb restore` runs this.

pyinfra inventory/prod.py deploys/fdb_restore.py --data to_version=1184466306 --data replace_data=true
pyinfra inventory/prod.py deploys/fdb_restore.py --data to_time=1795337260      # seconds since 1970
"""

from pyinfra import host

from deploys.backup.plan import RestoreTarget
from deploys.backup.verbs import Restore
from deploys.conductor.conduct import conducted, conducts
from deploys.conductor.locking import locked

version, at = host.data.get("to_version"), host.data.get("to_time")
verb = Restore(RestoreTarget(version=version, at=at, replace=bool(host.data.get("replace_data"))))
locked(verb.title)
if conducts("metrics"):
    conducted(name=f"backup | {verb.title}", verb=verb)
