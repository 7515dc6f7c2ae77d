"""sd_notify(3): tells systemd that a Type=notify unit is ready. Does nothing where systemd did not ask."""

import os
import socket


def notify(state: str) -> None:
    """`state` is "READY=1", "STOPPING=1" or "STATUS=..."."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # abstract name space
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        notifier.sendto(state.encode(), address)
