"""The cluster's certificate authority, kept by the operator in .griddle/clusters/<cluster>/pki, never in git.

One CA per cluster; per host a certificate as a member (of etcd, of FoundationDB with TLS) and one as a client.
Replacing the CA takes three steps, so that no host ever meets a certificate whose issuer it does not trust yet:

1. trust:  the new CA is added to everybody's bundle
2. issue:  every certificate is issued anew by it
3. forget: the old CA leaves the bundle
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ops.errors import Failure, UserError
from ops.paths import CLUSTERS, ROOT
from ops.process import pyinfra

CA_DAYS = 3650
CERTIFICATE_DAYS = 398
HOLDERS = "etcd,foundationdb,backup,metrics,app"  # components that hold certificates, or read them once
RENEW_DAYS = 60
"""A certificate with less time left is issued anew by the next deploy."""


@dataclass(frozen=True)
class Pair:
    """PEM texts of a certificate and its private key."""

    certificate: str
    key: str


class Authority:
    """A cluster's CA and the certificates that it has issued.

    :param cluster: the cluster's name
    """

    def __init__(self, cluster: str, clusters: Path = CLUSTERS) -> None:
        self.directory = clusters / cluster / "pki"

    def bundle(self) -> str:
        """PEM texts of all trusted CAs; the first call makes the CA."""
        return "".join(self._read(f"ca-{ca}.crt") for ca in self._state()["trusted"])

    def certificate(self, host: str, address: str, kind: str = "host") -> Pair:
        """A host's certificate, for serving and for connecting; issued when there is none that will do.

        :param host: the host's name, also its common name
        :param address: its IPv4 address
        :param kind: file name's second part; "host" or "client"
        """
        issuer = self._state()["issuer"]
        stem = f"{host}.{kind}"
        if not self._good(stem, address, issuer):
            self._issue(stem, host, address, issuer)
        return Pair(self._read(f"{stem}.crt"), self._read(f"{stem}.key"))

    def expires(self) -> dict[str, datetime.datetime]:
        """{file name: end of validity} of everything issued, CAs included."""
        return {
            path.stem: x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
            for path in sorted(self.directory.glob("*.crt"))
        }

    @property
    def phase(self) -> str:
        """steady, trust or issue: the last step of a rotation that was taken."""
        state = self._state()
        if len(state["trusted"]) == 1:
            return "steady"
        return "trust" if state["issuer"] == state["trusted"][0] else "issue"

    def advance(self) -> str:
        """Take the next step of a rotation; the name of the phase after it."""
        state = self._state()
        if self.phase == "steady":
            state["trusted"].append(self._make_ca())
        elif self.phase == "trust":
            state["issuer"] = state["trusted"][-1]
        else:
            for old in state["trusted"][:-1]:
                for suffix in ("crt", "key"):
                    (self.directory / f"ca-{old}.{suffix}").unlink(missing_ok=True)
            state["trusted"] = state["trusted"][-1:]
        self._write_state(state)
        return self.phase

    def _state(self) -> dict:
        path = self.directory / "state.json"
        if not path.is_file():
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            ca = self._make_ca()
            self._write_state({"issuer": ca, "trusted": [ca]})
        return json.loads(path.read_text())

    def _write_state(self, state: dict) -> None:
        self._write("state.json", json.dumps(state, indent=1) + "\n")

    def _read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def _write(self, name: str, text: str) -> None:
        temporary = self.directory / f".{name}.{os.getpid()}"
        temporary.touch(mode=0o600)
        temporary.write_text(text)
        temporary.rename(self.directory / name)

    def _make_ca(self) -> str:
        name = secrets.token_hex(4)
        key = ec.generate_private_key(ec.SECP256R1())
        common_name = f"griddle {self.directory.parent.name} {name}"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = (
            _builder(subject, subject, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        self._save(f"ca-{name}", certificate, key)
        return name

    def _issue(self, stem: str, host: str, address: str, issuer: str) -> None:
        ca_key = serialization.load_pem_private_key(self._read(f"ca-{issuer}.key").encode(), None)
        ca = x509.load_pem_x509_certificate(self._read(f"ca-{issuer}.crt").encode())
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName(host),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address(address)),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = (
            _builder(subject, ca.subject, key.public_key(), CERTIFICATE_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(
                # etcd's HTTP gateway presents the server's certificate as a client.
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        self._save(stem, certificate, key)

    def _save(self, stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        # The key first: a certificate without its key would look complete.
        self._write(
            f"{stem}.key",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
        )
        self._write(f"{stem}.crt", certificate.public_bytes(serialization.Encoding.PEM).decode())

    def _good(self, stem: str, address: str, issuer: str) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(self._read(f"{stem}.crt").encode())
            key = serialization.load_pem_private_key(self._read(f"{stem}.key").encode(), None)
        except (FileNotFoundError, ValueError):
            return False
        ca = x509.load_pem_x509_certificate(self._read(f"ca-{issuer}.crt").encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            certificate.issuer == ca.subject
            and certificate.public_key() == key.public_key()
            and ipaddress.ip_address(address) in names.get_values_for_type(x509.IPAddress)
            and certificate.not_valid_after_utc - _now() > datetime.timedelta(days=RENEW_DAYS)
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # An hour back: hosts' clocks may be behind before time sync has run.
        .not_valid_before(_now() - datetime.timedelta(hours=1))
        .not_valid_after(_now() + datetime.timedelta(days=days))
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(cluster: str) -> Authority:
    if not (CLUSTERS / cluster / "pki" / "state.json").is_file():
        there = ", ".join(path.parent.name for path in CLUSTERS.glob("*/pki")) or "none"
        raise UserError(f"cluster {cluster!r} has no CA yet (there are: {there}); the first deploy makes it")
    return Authority(cluster)


def show(cluster: str, echo: Callable[[str], None] = print) -> None:
    """Print what the cluster's CA has issued and when it ends."""
    authority = _authority(cluster)
    echo(f"{cluster}: CA in {authority.directory}, phase {authority.phase}")
    for name, end in authority.expires().items():
        echo(f"  {name:<24} until {end:%Y-%m-%d} ({(end - _now()).days} days)")


def rotate(cluster: str, echo: Callable[[str], None] = print) -> None:
    """Replace the CA and every certificate, on the running cluster: three applies, one per step.

    Interrupted anywhere, the next call goes on with the step that was not finished.

    :param cluster: the cluster's name, which is also its inventory file's
    :raises Failure: an apply failed; the CA stays in its phase
    """
    authority = _authority(cluster)
    inventory = f"inventory/{cluster}.py"
    if not (ROOT / inventory).is_file():
        raise UserError(f"{inventory} does not exist: a cluster is called as its inventory file")
    pending = authority.directory / "applying"
    while True:
        if not pending.exists():
            pending.write_text(authority.advance())
        phase = pending.read_text()
        echo(f"{cluster}: {'forget' if phase == 'steady' else phase}: applying to {inventory}")
        done = subprocess.run(pyinfra(inventory, "all", {"component": HOLDERS}), cwd=ROOT)
        if done.returncode:
            raise Failure(f"phase {phase} could not be applied; run the same command again")
        pending.unlink()
        if phase == "steady":
            echo(f"{cluster}: the old CA is forgotten")
            return
