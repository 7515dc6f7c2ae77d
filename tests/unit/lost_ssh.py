"""An SSH server on loopback that runs commands, by way of a path that can be cut or closed."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from pathlib import Path

import paramiko


class Server:
    """`cut`: what is sent goes nowhere and nothing says so, on old and new connections. `close`: they end.

    :ivar mute: a client's next channel is never opened
    """

    def __init__(self, directory: Path) -> None:
        self.key = directory / "key"
        paramiko.RSAKey.generate(2048).write_private_key_file(str(self.key))
        self._host_key = paramiko.RSAKey.generate(2048)
        self.mute = False
        self.connections = 0
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()

    def heal(self) -> None:
        self._cut.clear()
        self.close()  # what was swallowed is lost to those connections

    def close(self) -> None:
        opened, self._open = self._open, []
        for each in opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def stop(self) -> None:
        self._listener.close()
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            near, far = socket.socketpair()
            self._open += [client, near]
            for source, target in ((client, near), (near, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()
            transport = paramiko.Transport(far)
            transport.add_server_key(self._host_key)
            threading.Thread(target=self._serve, args=(transport,), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self._cut.is_set():
                    target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            each.close()

    def _serve(self, transport: paramiko.Transport) -> None:
        try:
            transport.start_server(server=_Session(self))
        except (paramiko.SSHException, EOFError):
            return


class _Session(paramiko.ServerInterface):
    def __init__(self, server: Server) -> None:
        self._server = server

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        while self._server.mute:
            threading.Event().wait(0.1)
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        # The tests' user may be nobody who could sudo, and need not.
        process = subprocess.Popen(
            ["sh", "-c", f'sudo() {{ while [ "${{1#-}}" != "$1" ]; do shift; done; "$@"; }}; {command}'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            taken = b""
            while data := channel.recv(65536):
                taken += data
            channel.sendall(process.communicate(taken)[0])
            channel.send_exit_status(process.returncode)
            channel.close()
        except (OSError, EOFError):
            process.kill()
            process.wait()
