"""How a run ends that is refused: pure but for its end."""

from __future__ import annotations

from typing import NoReturn

import gevent
from gevent.event import Event

from cluster.errors import UserError

_never = Event()
_ended = False


def end_refused() -> NoReturn:
    """Ends the run with exit code 2.

    Once: pyinfra prepares its hosts, and runs an operation on them, side by side. What a second greenlet raised
    would meet the first one's end, and be a traceback below the line that says why. So the others wait here.
    """
    global _ended
    if _ended and gevent.getcurrent() is not gevent.get_hub().parent:
        _never.wait()
    _ended = True
    raise SystemExit(UserError.exit_code)
