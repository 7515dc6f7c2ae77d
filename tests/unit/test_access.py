"""A run's own key is found in sshd's log, and held against those that would be left."""

import subprocess

import pytest

from deploys.framework.access import fingerprint, key_lost

OURS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQ0oHVJvlvJwn1f6mj8XzDMfMJrDLzFJ5TCa4hTtC8u me@here"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMhTBYoqqk8Wn6PDkRk3s1kuBV7mFYmqKdQ0rW1oLTzE"
HERE = "198.51.100.7 50000 192.0.2.21 22"


def log(key: str, port: int = 50000, kind: str = "ED25519") -> str:
    return f"Accepted publickey for deploy from 198.51.100.7 port {port} ssh2: {kind} {fingerprint(key)}"


def test_a_fingerprint_is_what_ssh_keygen_says(tmp_path):
    (tmp_path / "key.pub").write_text(f"{OURS}\n")
    said = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)
    assert said.stdout.split()[1] == fingerprint(OURS) == fingerprint(f'from="10.0.0.0/8",no-pty {OURS}')


@pytest.mark.parametrize(
    ("logins", "keys", "lost"),
    [
        ([log(OURS)], [OTHER, OURS], False),
        ([log(OURS)], [OTHER], True),
        ([log(OTHER), log(OURS)], [OTHER], True),  # the port was somebody else's before
        ([log(OURS, port=50001)], [OTHER], False),  # another connection's
        ([], [OTHER], False),  # nobody can say
        ([f"{log(OURS, kind='ED25519-CERT')} ID me (serial 0) CA ED25519 {fingerprint(OTHER)}"], [], False),
    ],
)
def test_a_key_that_would_be_lost(logins, keys, lost):
    assert key_lost(logins, HERE, keys) == (fingerprint(OURS) if lost else "")
