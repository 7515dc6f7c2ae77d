"""How deploys talk to hosts: one place that runs a command on a host, bounded, and says what went wrong in a line.

pyinfra's own operations and facts use the same connections, so what can be set on a connection is set on all of
them, by `tend_connections`.
"""

from __future__ import annotations

import socket
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from paramiko import Channel, SFTPClient, SSHException
from pyinfra.api import FactBase, OperationError, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput

from cluster.errors import Failure
from cluster.model import short_name
from deploys.framework import shell

CONNECT_SECONDS = 15  # to connect anew, with all that belongs to it
CHANNEL_SECONDS = 15  # for pyinfra's own commands; paramiko would wait an hour for a new channel
KEEP_ALIVE_SECONDS = 5
PIECE_BYTES = 256 * 1024  # of an upload
DEAD_SECONDS = 30  # what was sent, and a keepalive always is, has not been acknowledged for so long

# Each is called before a command of `run`, and raises Failure where this process may not act any more.
guards: list[Callable[[], None]] = []
_connecting: dict[str, BoundedSemaphore] = defaultdict(BoundedSemaphore)


class HostFailure(Failure, OperationError):
    """A command on a host did not succeed: a Failure for whoever conducts, and in an operation it ends the run."""


class Unreachable(HostFailure):
    """It is not known whether the command ran, or how it ended."""


def run(
    on: PyinfraHost, command: str, what: str, seconds: float = 60, stdin: Any = None, cleanup: bool = False
) -> list[str]:
    """Run a shell command as root now; its standard output's lines.

    :param what: what is done by it, for the message
    :param cleanup: it puts right what an earlier one began, so it runs even if this process may not go on
    :raises HostFailure: it failed, with what was seen; or a guard raised Failure
    """
    for guard in () if cleanup else tuple(guards):
        guard()
    ok, output = ask(on, command, what, seconds, stdin)
    if not ok:
        seen = " / ".join(line.strip() for line in output.output.splitlines()[-12:] if line.strip())
        raise HostFailure(f"{short_name(on.name)}: {what}: {seen or 'no output'}")
    return output.stdout_lines


def ask(
    on: PyinfraHost, command: str, what: str, seconds: float = 60, stdin: Any = None
) -> tuple[bool, CommandOutput]:
    """The same without guards; whether it exited with 0, and its output.

    A connection that has ended is made anew first. What was under way when one ended is not sent again.

    :raises Unreachable: no connection, or no end within `seconds`
    """
    name = short_name(on.name)
    given = {} if stdin is None else {"_stdin": stdin}
    try:
        _connect_anew(on)
        # pyinfra bounds reading alone: a channel may hang while it is opened, written to, or about to end.
        with gevent.Timeout(seconds + 1, TimeoutError):
            ok, output = on.run_shell_command(
                StringCommand(shell.command(command)), _sudo=True, _timeout=seconds, **given
            )
    except TimeoutError:
        raise Unreachable(
            f"{name}: {what}: no end within {seconds:.0f} s, and it may go on there; see whether the host answers "
            "by SSH, then run the same again"
        ) from None
    except (ConnectError, SSHException, EOFError, OSError) as error:
        raise Unreachable(_lost(name, what, error)) from None
    if not ok and _transport(on) is not None and not _transport(on).is_active():
        raise Unreachable(_lost(name, what, _transport(on).get_exception()))
    return ok, output


def fact(on: PyinfraHost, of: type[FactBase], **arguments: Any) -> Any:
    """A fact of any host, for whoever conducts. Raises HostFailure, where pyinfra itself may take a default."""
    kind = of()
    lines = run(on, kind.command(**arguments), of.__name__)
    return kind.process(lines) if lines else kind.default()


def _lost(name: str, what: str, error: Exception | None) -> str:
    why = str(error or "") or (type(error).__name__ if error else "it was closed")
    return f"{name}: {what}: SSH connection lost ({why}); see whether the host answers, then run the same again"


def _transport(on: PyinfraHost) -> Any:
    """paramiko's; None for another connector, and before the first connection."""
    client = getattr(on.connector, "client", None)
    return client.get_transport() if client else None


def _connect_anew(on: PyinfraHost) -> None:
    """Also connects to a host that takes no part in the run (--limit, --exclude), and leaves it out of it."""
    if not hasattr(on.connector, "client"):
        return
    with _connecting[on.name]:
        transport = _transport(on)
        if transport is None or not transport.is_active():
            on.connector.disconnect()  # forgets its file transfers' channel
            with gevent.Timeout(CONNECT_SECONDS, SSHException("no connection in time")):
                on.connector.connect()


def tend_connections() -> None:
    """For config.py, before pyinfra connects: it has no hook there, its callbacks are made with the inventory."""
    SSHConnector.connect = _tended(SSHConnector.connect)  # type: ignore[method-assign]
    for method in ("run_shell_command", "put_file", "get_file"):
        setattr(SSHConnector, method, _ends_as_pyinfra_knows(getattr(SSHConnector, method)))
    SFTPClient.putfo = _put_in_pieces  # type: ignore[method-assign]
    sys.unraisablehook = _unraisable


def _put_in_pieces(
    client: SFTPClient, file: Any, path: str, file_size: int = 0, callback: Any = None, confirm: bool = True
) -> Any:
    """SFTPClient.putfo, but each piece is sent once the one before has been written.

    paramiko's own hands all of a file to the connection. What else goes over it waits behind that: over a slow
    line, or on a busy host, longer than the cluster's lock lasts, which this process renews there.
    """
    sent = 0
    with client.file(path, "wb") as there:
        while piece := file.read(PIECE_BYTES):
            there.set_pipelined(True)
            there.write(piece[:-1])
            there.set_pipelined(False)  # what is written so waits for the answers to all before it, too
            there.write(piece[-1:])
            sent += len(piece)
    written = client.stat(path)
    if written.st_size != sent:
        raise OSError(f"{path}: {sent} bytes were sent, {written.st_size} are there")
    return written


def _unraisable(what: Any) -> None:
    """At the very end paramiko's files close themselves on a path that was cut, and nobody can wait any more."""
    if "greenlet is being finalized" not in str(what.exc_value):
        sys.__unraisablehook__(what)


def _tended(connect: Callable[[SSHConnector], None]) -> Callable[[SSHConnector], None]:
    def called(connector: SSHConnector) -> None:
        connect(connector)
        _tend(connector.client.get_transport() if connector.client else None)

    return called


def _tend(transport: Any) -> None:
    """A path that is gone ends the connection, and whatever waits on it, within some DEAD_SECONDS."""
    while transport is not None:
        transport.channel_timeout = CHANNEL_SECONDS
        transport.set_keepalive(KEEP_ALIVE_SECONDS)
        sock = transport.sock
        if hasattr(sock, "setsockopt"):  # a ProxyCommand's has not
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_SECONDS * 1000)
        transport = sock.get_transport() if isinstance(sock, Channel) else None  # by way of a jump host


def _ends_as_pyinfra_knows(call: Callable[..., Any]) -> Callable[..., Any]:
    """paramiko's EOFError would be a traceback; pyinfra knows OSError, as a host that failed."""

    def called(*arguments: Any, **more: Any) -> Any:
        try:
            return call(*arguments, **more)
        except EOFError as error:
            raise ConnectionError("the SSH connection was closed") from error

    return called
