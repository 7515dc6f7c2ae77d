"""gunicorn's worker class for meinheld, in place of the one that meinheld brings.

That one replaces gunicorn's Logger.error by a function with other arguments, also in gunicorn's master, which then
dies of a traceback inside its first error message. It is also deaf to QUIT while no request comes: Python's
handler would only run with the next one. SIGTERM is handled by meinheld's own loop: it stops accepting, goes on
answering on the connections that it has for 1 to 2 s, and ends with exit code 0.
"""

from gunicorn.workers.base import Worker
from meinheld import server


class _Errors:
    """What meinheld calls an error logger."""

    def __init__(self, log) -> None:
        self._log = log

    def error(self, kind, value, traceback) -> None:
        self._log.error("request failed", exc_info=(kind, value, traceback))


class FrontWorker(Worker):
    """Synchronous: one request at a time, see services/run_front.py."""

    def run(self) -> None:
        server.set_access_logger(None)  # nginx logs
        server.set_error_logger(_Errors(self.log))
        server.set_keepalive(self.cfg.keepalive)
        server.set_picoev_max_fd(self.cfg.worker_connections)
        # touches gunicorn's heartbeat file, and stops when the master is gone
        server.set_fastwatchdog(self.tmp.fileno(), self.ppid, int(self.cfg.graceful_timeout))
        server.set_listen_socket([socket.fileno() for socket in self.sockets])
        server.run(self.wsgi)
