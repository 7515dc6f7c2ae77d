import subprocess

import pytest

from ops.pki import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority("test", tmp_path)


def verify(tmp_path, bundle: str, certificate: str) -> bool:
    """Whether openssl accepts the certificate for both of its uses."""
    (tmp_path / "bundle.pem").write_text(bundle)
    (tmp_path / "cert.pem").write_text(certificate)
    return all(
        subprocess.run(
            ["openssl", "verify", "-CAfile", tmp_path / "bundle.pem", "-purpose", purpose, tmp_path / "cert.pem"],
            capture_output=True,
        ).returncode
        == 0
        for purpose in ("sslserver", "sslclient")
    )


def test_certificates_verify_and_are_issued_once(authority, tmp_path):
    pair = authority.certificate("app1", "192.0.2.21")
    assert verify(tmp_path, authority.bundle(), pair.certificate)
    assert authority.certificate("app1", "192.0.2.21") == pair
    assert Authority("test", tmp_path).certificate("app1", "192.0.2.21") == pair


def test_a_new_address_gets_a_new_certificate(authority):
    assert authority.certificate("app1", "192.0.2.21") != authority.certificate("app1", "192.0.2.99")


def test_keys_are_private(authority):
    authority.certificate("app1", "192.0.2.21")
    assert {path.stat().st_mode & 0o777 for path in authority.directory.glob("*.key")} == {0o600}


def test_rotation_never_presents_what_is_not_trusted_yet(authority, tmp_path):
    def pair():
        return authority.certificate("app1", "192.0.2.21").certificate

    old_bundle, old = authority.bundle(), pair()
    assert authority.advance() == "trust"
    trusting = authority.bundle()
    assert pair() == old
    assert verify(tmp_path, trusting, old)
    assert authority.advance() == "issue"
    assert authority.bundle() == trusting
    new = pair()
    assert new != old
    assert verify(tmp_path, trusting, new) and not verify(tmp_path, old_bundle, new)
    assert authority.advance() == "steady"
    assert pair() == new
    assert verify(tmp_path, authority.bundle(), new) and not verify(tmp_path, authority.bundle(), old)
