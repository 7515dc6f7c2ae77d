"""An object store for the backup's tests: moto's S3, which checks signatures and rights, on this machine."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

from cluster.pki.authority import Authority

REGION = "eu-north-1"


class _Handler(WSGIRequestHandler):
    def log(self, *message: object) -> None:
        """Nothing."""


def _without_md5(application: Any) -> Any:
    """moto gives the Content-MD5 of a whole object back with a part of it, too, which FoundationDB's client then
    refuses. S3 itself does not send that header.
    """

    def answer(environ: Any, start: Any) -> Any:
        def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start(status, [each for each in headers if each[0].lower() != "content-md5"], *more)

        return application(environ, begin)

    return answer


class ObjectStore:
    """One bucket, and one account that may use it, over TLS. What it holds stays while it is away.

    :param files: where its certificate, of a CA of its own, and the operator's files for it are to be
    """

    def __init__(self, address: str, bucket: str, files: Path) -> None:
        self.address, self.bucket, self.port = address, bucket, 0
        self.files, self._server = files, None
        authority = Authority("store", files)
        authority.make()
        pair = authority.certificate("store", address)
        for name, content in {"crt": pair.certificate, "key": pair.key, "ca": authority.bundle()}.items():
            (files / name).write_text(content)
        users = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
        users.create_user("aws", "backup")
        rights = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        users.put_user_policy("backup", "all", json.dumps({"Version": "2012-10-17", "Statement": [rights]}))
        account = users.create_access_key("backup")
        self.key, self.secret = account.access_key_id, account.secret_access_key
        self._objects = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._objects.create_bucket(bucket, REGION)
        self.write_credentials(self.secret)

    def write_credentials(self, secret: str) -> None:
        """Of the account, which may have another one."""
        path = self.files / "credentials.json"
        path.write_text(json.dumps({"accounts": {f"{self.key}@{self.address}": {"secret": secret}}}))
        path.chmod(0o600)

    @property
    def data(self) -> dict[str, str]:
        """The cluster's data for a backup to it."""
        where = f"{self.address}:{self.port}/lab?bucket={self.bucket}&region={REGION}"
        return {
            "fdb_backup_url": f"blobstore://{self.key}@{where}",
            "fdb_backup_credentials": str(self.files / "credentials.json"),
            "fdb_backup_ca": str(self.files / "ca"),
        }

    def start(self) -> None:
        """From the second time on at the same port."""
        settings.INITIAL_NO_AUTH_ACTION_COUNT = ActionAuthenticatorMixin.request_count = 0
        application = _without_md5(DomainDispatcherApplication(create_backend_app))
        pair = (str(self.files / "crt"), str(self.files / "key"))
        self._server = make_server(
            self.address, self.port, application, True, request_handler=_Handler, ssl_context=pair
        )
        self.port = self._server.port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def names(self) -> list[str]:
        """Of its objects."""
        return sorted(self._objects.head_bucket(self.bucket).keys)

    def __enter__(self) -> ObjectStore:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
