"""Child processes that do not outlive who started them."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(with_signal: int = signal.SIGTERM) -> None:
    """For ``preexec_fn``: the kernel sends this process the signal when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, with_signal)
