"""A raw-mode nng REP socket: take what waits, answer each in its own message. The only user of pynng's own
binding.

In raw mode a message's header, with the pipe and the request ID, stays in the message while its body is
replaced, so any number of requests can be held and answered in any order. `Context.recv()` has no form that
does not block and allocates for every call.
"""

from pynng._nng import ffi, lib

TASK_THREADS = 2  # nng's minimum. Its default, four, cost 80 us per request against 57 with two
_unpack, _cast, _CHAR_P = ffi.unpack, ffi.cast, ffi.typeof("char *")  # looked up once: the hot path
_NONBLOCK = lib.NNG_FLAG_NONBLOCK


class SocketError(OSError):
    """What nng said, and about which call."""


class RawRep:
    """Listens on nng URLs. `take` is for one thread; `reply` may be called from any."""

    def __init__(self, *, buffer: int, message_limit_bytes: int, take_timeout_ms: int) -> None:
        """`buffer`: how many received messages nng holds. Larger messages close their connection."""
        for name in ("NUM_TASK_THREADS", "MAX_TASK_THREADS"):  # counts only before anything else of nng
            lib.nng_init_set_parameter(getattr(lib, f"NNG_INIT_{name}"), TASK_THREADS)
        opened = ffi.new("nng_socket *")
        _check("open", lib.nng_rep0_open_raw(opened))
        self._socket = opened[0]
        self._message = ffi.new("nng_msg **")
        for option, value in ((b"recv-buffer", buffer), (b"send-buffer", buffer)):
            _check("set option", lib.nng_socket_set_int(self._socket, option, value))
        _check("set option", lib.nng_socket_set_size(self._socket, b"recv-size-max", message_limit_bytes))
        _check("set option", lib.nng_socket_set_ms(self._socket, b"recv-timeout", take_timeout_ms))
        _check("set option", lib.nng_socket_set_ms(self._socket, b"send-timeout", 100))

    def listen(self, url: str) -> None:
        _check(f"listen on {url}", lib.nng_listen(self._socket, url.encode(), ffi.NULL, 0))

    def take(self, limit: int) -> tuple[list, bool]:
        """(messages, waited): up to `limit` of those that are there; if none is, the first to come in time."""
        out, socket, receive = self._message, self._socket, lib.nng_recvmsg
        messages = []
        while len(messages) < limit and receive(socket, out, _NONBLOCK) == 0:
            messages.append(out[0])
        if messages:
            return messages, False
        code = receive(socket, out, 0)
        if code:
            if code != lib.NNG_ETIMEDOUT:
                _check("receive", code)
            return messages, True
        messages.append(out[0])
        while len(messages) < limit and receive(socket, out, _NONBLOCK) == 0:
            messages.append(out[0])
        return messages, True

    def reply(self, message, body: bytes) -> None:
        """Send `body` to where `message` came from, if that connection still exists."""
        lib.nng_msg_clear(message)
        lib.nng_msg_append(message, body, len(body))
        if lib.nng_sendmsg(self._socket, message, _NONBLOCK) and lib.nng_sendmsg(self._socket, message, 0):
            lib.nng_msg_free(message)

    @staticmethod
    def body_of(message) -> bytes:
        length = lib.nng_msg_len(message)
        return _unpack(_cast(_CHAR_P, lib.nng_msg_body(message)), length) if length else b""

    def close(self) -> None:
        lib.nng_close(self._socket)


def _check(what: str, code: int) -> None:
    if code:
        raise SocketError(f"cannot {what}: {ffi.string(lib.nng_strerror(code)).decode()}")
