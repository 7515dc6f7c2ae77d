"""The cluster's certificate authority, kept by the operator in .griddle/clusters/<cluster>/pki, never in git.

One CA per cluster; per host a certificate as a member (of etcd, of FoundationDB with TLS) and one as a client.
What there is of CAs is said by state.json alone, which is replaced last and at once: files that it does not name
are of a step that was not taken. Certificates of hosts are kept here as well, and taken from the hosts where those
have newer ones, issued on another operator's machine.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.errors import Failure, UserError
from cluster.files import locked, sync_directory, write_durably
from cluster.paths import CLUSTERS
from cluster.pki import ca_state
from cluster.pki.ca_state import CertificatesSeen, State

CA_DAYS = 3650
CERTIFICATE_DAYS = 398
RENEW_DAYS = 60
"""A certificate with less time left is issued anew by the next deploy."""
STATE = "state.json"


@dataclass(frozen=True)
class Pair:
    """PEM texts of a certificate and its private key."""

    certificate: str
    key: str


class Authority:
    """A cluster's CA and the certificates that it has issued, as this machine has them.

    :param cluster: the cluster's name
    :param deferred: nothing is written before `save`
    :raises UserError: its state cannot be read
    """

    def __init__(self, cluster: str, clusters: Path = CLUSTERS, *, deferred: bool = False) -> None:
        self.cluster = cluster
        self.directory = clusters / cluster / "pki"
        self._deferred = deferred
        self._unwritten: dict[str, str] = {}
        self._text = self._stored_state()
        self.state: State | None = (
            ca_state.parse(self._text, str(self.directory / STATE)) if self._text is not None else None
        )

    # --- the CA

    def make(self) -> None:
        """The cluster's first CA. Raises Failure if another process has made one meanwhile."""
        name, files = self._new_ca()
        self._commit(State((name,), name), files)

    def advance(self) -> str:
        """Begin the next phase of a rotation; its name. Nothing of it is in force anywhere yet."""
        name, files = self._new_ca() if self._present().phase == "steady" else ("", {})
        self._commit(self._present().advanced(name), files)
        return self._present().phase

    def applied(self) -> None:
        """The phase is in force on all hosts."""
        self._commit(self._present().applied())

    def replace(self, state: State, files: Mapping[str, str]) -> None:
        """Take another machine's copy of the CA, whole or not at all."""
        self._commit(state, files)

    def files(self) -> dict[str, str]:
        """{name: text} of all that the CA is, without the hosts' certificates."""
        names = [f"ca-{ca}.{suffix}" for ca in self._present().trusted for suffix in ("crt", "key")]
        return {name: self._read(name) for name in names} | {STATE: self._present().text()}

    def bundle(self) -> str:
        """PEM texts of all trusted CAs."""
        return "".join(self._read(f"ca-{ca}.crt") for ca in self._present().trusted)

    # --- what it issues

    def certificate(self, host: str, address: str, kind: str = "host") -> Pair:
        """A host's certificate, for serving and for connecting; issued when there is none that will do.

        :param host: the host's name, also its common name
        :param address: its IPv4 address
        :param kind: file name's second part; "host" or "client"
        """
        stem = f"{host}.{kind}"
        if self._kept(stem, address) is None:
            self.renew(host, address, kind)
        return Pair(self._read(f"{stem}.crt"), self._read(f"{stem}.key"))

    def renew(self, host: str, address: str, kind: str = "host") -> None:
        """Issue a host's certificate anew, whether or not there is one that will do."""
        self._write(self._issue(f"{host}.{kind}", host, address))

    def prefers(self, host: str, address: str, kind: str, certificate: str) -> bool:
        """Whether a certificate that a host has is to be kept rather than what is here: the one issued last is.

        So machines that have each issued one for the same host agree again.
        """
        found = self._good(certificate, address)
        kept = self._kept(f"{host}.{kind}", address)
        if found is None or found == kept:
            return False
        return kept is None or found.not_valid_before_utc >= kept.not_valid_before_utc

    def adopt(self, host: str, kind: str, pair: Pair) -> None:
        """Keep a host's own certificate from now on; a pair that does not belong together is passed over."""
        if _belong_together(_load(pair.certificate), pair.key):
            self._write({f"{host}.{kind}.key": pair.key, f"{host}.{kind}.crt": pair.certificate})

    def expires(self) -> dict[str, datetime.datetime]:
        """{file name: end of validity} of everything issued, CAs included."""
        found = {}
        for path in sorted(self.directory.glob("*.crt")):
            try:
                found[path.stem] = _load(self._read(path.name)).not_valid_after_utc
            except ValueError:
                raise UserError(f"{path} is no certificate: without it, the next apply issues a new one") from None
        return found

    # --- files

    def save(self) -> None:
        """Write what was deferred, and defer no more.

        :raises Failure: another process has changed the CA meanwhile
        """
        self._deferred = False
        unwritten, self._unwritten = self._unwritten, {}
        state = unwritten.pop(STATE, None)
        if state:
            self._commit(self._present(), unwritten)
        elif unwritten:
            self._write(unwritten)

    def _write(self, files: Mapping[str, str]) -> None:
        if self._deferred:
            self._unwritten |= files
            return
        with self._unchanged():
            for name, text in files.items():
                write_durably(self.directory / name, text)

    def _commit(self, state: State, files: Mapping[str, str] | None = None) -> None:
        """Another state, and the files that it needs; those go first, and what it does not need goes last."""
        files = dict(files or {})
        if self._deferred:
            self._unwritten |= files | {STATE: state.text()}
        else:
            with self._unchanged():
                for name, text in files.items():
                    write_durably(self.directory / name, text)
                write_durably(self.directory / STATE, state.text())
                self._text = state.text()
                self._sweep(state)
        self.state = state

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Under the directory's lock, which is held for moments only, while its state is the one that was read."""
        with locked(self.directory / "lock"):
            if self._stored_state() != self._text:
                raise Failure(f"another process has changed the CA in {self.directory} meanwhile; run it again")
            yield

    def _sweep(self, state: State) -> None:
        """Remove CAs that the state does not name, and what killed processes have left."""
        for path in [*self.directory.glob("ca-*"), *self.directory.glob(".*.[0-9]*")]:
            if path.stem.removeprefix("ca-") not in state.trusted:
                path.unlink()
        sync_directory(self.directory)

    def _stored_state(self) -> str | None:
        path = self.directory / STATE
        try:
            return path.read_text() if path.exists() else None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {_why(error)}") from None

    def _present(self) -> State:
        if self.state is None:
            raise UserError(f"there is no CA for cluster {self.cluster} in {self.directory} (docs/security.md)")
        return self.state

    def _read(self, name: str) -> str:
        if name in self._unwritten:
            return self._unwritten[name]
        try:
            return (self.directory / name).read_text()
        except FileNotFoundError:
            raise UserError(
                f"{self.directory / name} is missing: move {self.directory} away, and ./griddle pki import a copy"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.directory / name} cannot be read: {_why(error)}") from None

    # --- keys and certificates

    def _new_ca(self) -> tuple[str, dict[str, str]]:
        """The name of a new CA, and its files."""
        name = secrets.token_hex(4)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"griddle {self.cluster} {name}")])
        certificate = (
            _builder(subject, subject, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return name, _files(f"ca-{name}", certificate, key)

    def _issue(self, stem: str, host: str, address: str) -> dict[str, str]:
        issuer = self._present().issuer
        ca_key = serialization.load_pem_private_key(self._read(f"ca-{issuer}.key").encode(), None)
        ca = _load(self._read(f"ca-{issuer}.crt"))
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
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        return _files(stem, certificate, key)

    def _kept(self, stem: str, address: str) -> x509.Certificate | None:
        """The host's certificate that lies here, if it will do and its key is there."""
        here = [
            name in self._unwritten or (self.directory / name).exists() for name in (f"{stem}.crt", f"{stem}.key")
        ]
        if not all(here):
            return None
        certificate = self._good(self._read(f"{stem}.crt"), address)
        return certificate if certificate and _belong_together(certificate, self._read(f"{stem}.key")) else None

    def _good(self, text: str, address: str) -> x509.Certificate | None:
        """A host's certificate, if it will do: by the present issuer, for this address, with time left."""
        try:
            certificate = _load(text)
            certificate.verify_directly_issued_by(_load(self._read(f"ca-{self._present().issuer}.crt")))
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return None
        enough = certificate.not_valid_after_utc - _now() > datetime.timedelta(days=RENEW_DAYS)
        return certificate if enough and ipaddress.ip_address(address) in _addresses(names) else None


def seen(bundles: Iterable[str], certificates: Iterable[str]) -> CertificatesSeen:
    """What a host's PEM texts say, as far as they can be read; empty ones are left out."""
    return CertificatesSeen(
        tuple(tuple(_name(ca.subject) for ca in _load_all(bundle)) for bundle in bundles if _load_all(bundle)),
        frozenset(_name(each.issuer) for text in certificates for each in _load_all(text)),
    )


def _name(of: x509.Name) -> str:
    (attribute, *_) = of.get_attributes_for_oid(NameOID.COMMON_NAME) or [None]
    return str(attribute.value).rpartition(" ")[2] if attribute else "?"


def _load(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def _load_all(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return []


def _addresses(names: x509.SubjectAlternativeName) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    return names.get_values_for_type(x509.IPAddress)


def _belong_together(certificate: x509.Certificate, key: str) -> bool:
    try:
        return serialization.load_pem_private_key(key.encode(), None).public_key() == certificate.public_key()
    except ValueError:
        return False


def _files(stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """{name: text} of both, in the order in which they are written: one without its key would look complete."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        f"{stem}.key": private.decode(),
        f"{stem}.crt": certificate.public_bytes(serialization.Encoding.PEM).decode(),
    }


def _why(error: OSError | UnicodeDecodeError) -> str:
    return getattr(error, "strerror", "") or "it is no text"


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
