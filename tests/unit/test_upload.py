"""A file that is uploaded leaves the connection to others: it is sent piece by piece."""

import io
import secrets

import paramiko
import pytest

from deploys.framework import remote
from tests.unit.sshd import missing, sshd

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture
def client(tmp_path, monkeypatch):
    with sshd(tmp_path) as server, paramiko.SSHClient() as ssh:
        ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        ssh.connect("127.0.0.1", server.port, key_filename=str(server.key), allow_agent=False, look_for_keys=False)
        yield ssh.open_sftp()


@pytest.mark.parametrize("size", [0, 1, remote.PIECE_BYTES, 3 * remote.PIECE_BYTES + 17])
def test_it_arrives_whole_and_no_more_than_a_piece_is_under_way(client, tmp_path, monkeypatch, size):
    content, unanswered = secrets.token_bytes(size), []
    send = paramiko.SFTPClient._async_request

    def seen(self, *arguments):
        unanswered.append(len(self._expecting))
        return send(self, *arguments)

    monkeypatch.setattr(paramiko.SFTPClient, "_async_request", seen)
    remote._put_in_pieces(client, io.BytesIO(content), str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == content
    assert max(unanswered) <= remote.PIECE_BYTES / paramiko.SFTPFile.MAX_REQUEST_SIZE
