"""Where a blobstore:// URL points, and the files that FoundationDB's client needs for it, from the operator's own.

FoundationDB takes a secret in the URL, where every process list would show it. Griddle refuses that: the URL names
the key alone, and the secret is looked up, at each new connection, in a file that only the user foundationdb can
read (apple/foundationdb, documentation/sphinx/source/backups.rst, "Blob Credential Files").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.paths import ROOT
from cluster.pki.authority import Authority
from deploys.framework.tree import File

CREDENTIALS = "/etc/foundationdb/backup-credentials.json"
CA = "/etc/foundationdb/backup-ca.crt"
ENVIRONMENT = "/etc/foundationdb/backup.env"
"""What the agents and the backup's tools find these files by."""

FORM = r"""
    blobstore://
    ((?P<key>[A-Za-z0-9._+=-]*)@)?
    (?P<host>[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?
    /(?P<name>[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)
    \?(?P<query>[a-z_]+=[!-%'-~]+(&[a-z_]+=[!-%'-~]+)*)
"""
_FORM = re.compile(re.sub(r"\s", "", FORM), re.ASCII)


@dataclass(frozen=True)
class Place:
    """A blobstore:// URL, taken apart. `key`: None where it names no account; "" where the credentials do."""

    key: str | None
    host: str
    port: str
    name: str
    query: str

    def __str__(self) -> str:
        account = "" if self.key is None else f"{self.key}@"
        port = f":{self.port}" if self.port else ""
        return f"blobstore://{account}{self.host}{port}/{self.name}?{self.query}"

    @property
    def parameters(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.query.split("&"))

    @property
    def secure(self) -> bool:
        """Over TLS, as it is unless the URL says otherwise."""
        return not {("secure_connection", "0"), ("sc", "0")} & self.parameters.items()

    @property
    def account(self) -> str | None:
        """What FoundationDB looks for in the credentials: it leaves the port out."""
        return None if self.key is None else f"{self.key}@{self.host}"

    @property
    def bucket_url(self) -> str:
        """For `fdbbackup list`, which wants no name."""
        return impatient(str(replace(self, name="")))


def impatient(url: str) -> str:
    """The same, for a tool that somebody waits for: three tries, not ten, where a store is away."""
    return f"{url}&connect_tries=3" if url.startswith("blobstore://") else url


def place(url: str) -> Place | None:
    """None: it is no blobstore:// URL, or holds a secret, or lacks its bucket or region.

    The region is the signature's (version 4); FoundationDB would guess it of some host names alone, and does not
    say it when it lists backups.
    """
    found = _FORM.fullmatch(url)
    if not found:
        return None
    made = Place(found["key"], found["host"], found["port"] or "", found["name"], found["query"])
    return made if {"bucket", "region"} <= made.parameters.keys() else None


def listed(url: str, wanted: Place) -> str | None:
    """One line of what `fdbbackup list` says of the bucket, as the URL that the backup was begun with; None: it is
    not one below `wanted`. What is listed lacks the region, and has its parameters in another order.
    """
    found = re.fullmatch(r"blobstore://(?:[^@/]*@)?[^/]+/([^?]+)(?:\?.*)?", url)
    if not found or found[1].rpartition("/")[0] != wanted.name:
        return None
    return str(replace(wanted, name=found[1]))


def faults(data: Mapping[str, Any]) -> list[str]:
    """Keys that are good alone and cannot be together, as lines for the operator."""
    if not (to := place(data["fdb_backup_url"])):
        return []
    found = []
    if to.account is not None and not data["fdb_backup_credentials"]:
        found.append(
            f"fdb_backup_url names the account {to.account}, and fdb_backup_credentials no file with its secret"
        )
    if to.secure and not data["fdb_backup_ca"]:
        found.append(
            "fdb_backup_url is one over TLS, and fdb_backup_ca names no file: FoundationDB trusts no CA by itself "
            "(secure_connection=0 in the URL is plain HTTP)"
        )
    return found


def credentials(data: Mapping[str, Any]) -> str:
    """The operator's file, as the host gets it; without any account where there is none.

    :raises UserError: it is not there, others can read it, it has another form, or lacks the URL's account
    """
    accounts: dict[str, Any] = {}
    if name := data["fdb_backup_credentials"]:
        what, path = f"fdb_backup_credentials: {name}", _path(name)
        text = _read(what, path)
        if path.stat().st_mode & 0o077:
            raise UserError(f"{what} is there for others than its owner: chmod 600 {path}")
        accounts = _accounts(what, text)
        to = place(data["fdb_backup_url"])
        if to and to.account is not None and to.account not in accounts:
            raise UserError(f"{what} has no account {to.account} (the URL's key and host, without a port)")
    return json.dumps({"accounts": accounts}, indent=1) + "\n"


def _accounts(what: str, text: str) -> dict[str, Any]:
    wanted = 'FoundationDB\'s form is {"accounts": {"KEY@HOST": {"secret": "..."}}}'
    try:
        accounts = json.loads(text)["accounts"]
        good = all(isinstance(each["secret"], str) and each["secret"] for each in accounts.values())
    except (ValueError, KeyError, TypeError, AttributeError):  # not its words: they may be the secret
        good = False
    if not good:
        raise UserError(f"{what} has another form than it needs; {wanted}")
    return accounts


def authorities(data: Mapping[str, Any]) -> str:
    """Certificates of the CAs that the store's own may come from; "" where none are needed.

    :raises UserError: the file is not there, or holds none
    """
    if not (name := data["fdb_backup_ca"]):
        return ""
    text = _read(f"fdb_backup_ca: {name}", _path(name))
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise UserError(f"fdb_backup_ca: {name} holds no certificate; PEM is needed")
    return text


def check(data: Mapping[str, Any]) -> None:
    """:raises UserError: one of the operator's files is not as it should be"""
    credentials(data)
    authorities(data)


def files(data: Mapping[str, Any], authority: Authority) -> dict[str, File]:
    """The files on the agents' host. They are there without an object store, too: so nothing of a former one stays
    that the data do not name any more, and what they do name can still be restored.
    """
    environment = [f"FDB_BLOB_CREDENTIALS={CREDENTIALS}\n"]
    made = {CREDENTIALS: File(credentials(data), "600", "foundationdb", "foundationdb")}
    if trusted := authorities(data):
        # A process has one list of CAs, for the database and for the store.
        own = authority.bundle() if data["fdb_tls"] else ""
        made[CA] = File(f"{own}{trusted}")
        environment.append(f"FDB_TLS_CA_FILE={CA}\n")
    return made | {ENVIRONMENT: File("".join(environment))}


def _path(name: str) -> Path:
    return ROOT / Path(name).expanduser()


def _read(what: str, path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
