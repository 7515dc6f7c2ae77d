"""FoundationDB's backup; `./griddle fdb backup now` and `verify` run this.

pyinfra inventory/prod.py deploys/fdb_backup.py --data backup=now       # or verify
"""

from pyinfra import host

from deploys.backup.verbs import BackupNow, Verify
from deploys.conductor.conduct import conducted, conducts
from deploys.conductor.locking import locked

chosen = {"now": BackupNow, "verify": Verify}[host.data.get("backup", "now")]
locked(chosen.title)
if conducts("metrics"):
    verb = chosen()
    conducted(name=f"backup | {verb.title}", verb=verb)
