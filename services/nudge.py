"""Nudges, by SP PUB/SUB: after a commit the front tells the feed of its host that the log has grown.

A nudge may be lost, come late or come twice: it only saves polling.
"""

import contextlib
import time

import pynng

SLICE_MS = 200  # how often a waiting feed looks whether it is to stop
HELD = 128


class Nudger:
    """The front's side. Connects in the background, when there is something to say for the first time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: pynng.Pub0 | None = None

    def nudge(self) -> None:
        """Never waits and never fails."""
        with contextlib.suppress(pynng.NNGException):
            if self._socket is None:
                self._socket = pynng.Pub0(send_timeout=0, reconnect_time_min=50, reconnect_time_max=1000)
                self._socket.dial(self._url, block=False)
            self._socket.send(b"nudge")


class Nudged:
    """The feed's side. Raises pynng.NNGException where it cannot listen."""

    def __init__(self, url: str) -> None:
        self._socket = pynng.Sub0(topics=b"", recv_timeout=SLICE_MS, recv_buffer_size=HELD, listen=url)

    def wait(self, seconds: float, leaving) -> None:
        """Until a nudge comes, `leaving()` is true, or the time is over. What came meanwhile counts as one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not leaving():
            try:
                self._socket.recv_msg()  # recv() fails on an empty message, which anybody may send
            except pynng.Timeout:
                continue
            break
        with contextlib.suppress(pynng.TryAgain):
            for _ in range(HELD):
                self._socket.recv_msg(block=False)

    def close(self) -> None:
        self._socket.close()
