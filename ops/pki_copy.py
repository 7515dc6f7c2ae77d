"""A cluster's CA as one text, for another operator's machine: plain for a pipe, or sealed with a passphrase.

Sealed, it may lie in git or in a mail: scrypt (RFC 7914) makes a key of the passphrase, Fernet (AES-128-CBC with
HMAC-SHA256, github.com/fernet/spec) encrypts with it. Pure.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cluster.errors import UserError
from cluster.pki import ca_state
from cluster.pki.ca_state import State

_FORMAT = "griddle pki 1"
_SEALED = f"{_FORMAT}, sealed: scrypt 2^17 8 1, fernet"
_SALT_BYTES = 16
PASSPHRASE_CHARACTERS = 12
"""At least so many are needed: who has the file can try as many passphrases as he likes."""


@dataclass(frozen=True)
class Copy:
    """What a copy holds: files by name, state.json among them."""

    cluster: str
    state: State
    files: Mapping[str, str]


def pack(cluster: str, files: Mapping[str, str]) -> str:
    """The text of a copy, plain."""
    return json.dumps({"format": _FORMAT, "cluster": cluster, "files": dict(files)}, indent=1) + "\n"


def unpack(text: str, where: str) -> Copy:
    """Read a plain copy, and prove that its CAs are whole. Raises UserError, naming `where`."""
    try:
        document = json.loads(text)
        cluster, files = document["cluster"], document["files"]
        if (
            document["format"] != _FORMAT
            or not re.fullmatch(r"[A-Za-z0-9_.-]+", cluster)
            or cluster.startswith(".")
        ):
            raise ValueError("another format")
        state = ca_state.parse(files["state.json"], where)
        wanted = {"state.json": files["state.json"]}
        for ca in state.trusted:
            wanted |= {name: files[name] for name in (f"ca-{ca}.key", f"ca-{ca}.crt")}
            key = serialization.load_pem_private_key(files[f"ca-{ca}.key"].encode(), None)
            certificate = x509.load_pem_x509_certificate(files[f"ca-{ca}.crt"].encode())
            if key.public_key() != certificate.public_key():
                raise ValueError(f"key and certificate of CA {ca} do not belong together")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is no copy of a cluster's CA ({error})") from None
    return Copy(cluster, state, wanted)


def is_sealed(text: str) -> bool:
    return text.startswith(_SEALED)


def seal(text: str, passphrase: str) -> str:
    """The text, so that only who has the passphrase can read it, and any change shows."""
    salt = secrets.token_bytes(_SALT_BYTES)
    body = base64.b64encode(salt + base64.urlsafe_b64decode(_fernet(passphrase, salt).encrypt(text.encode())))
    return f"{_SEALED}\n{textwrap.fill(body.decode(), 76)}\n"


def unseal(text: str, passphrase: str, where: str) -> str:
    """What `seal` was given. Raises UserError, naming `where`."""
    try:
        body = base64.b64decode("".join(text.splitlines()[1:]), validate=True)
        salt, token = body[:_SALT_BYTES], base64.urlsafe_b64encode(body[_SALT_BYTES:])
        return _fernet(passphrase, salt).decrypt(token).decode()
    except (ValueError, InvalidToken):
        raise UserError(f"{where}: another passphrase, or the file is damaged") from None


def _fernet(passphrase: str, salt: bytes) -> Fernet:
    key = Scrypt(salt=salt, length=32, n=2**17, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))
