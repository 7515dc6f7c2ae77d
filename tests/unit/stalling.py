"""A server for the load to be tried on: as quick as one likes, except for one second."""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time


class Stalling:
    """Answers each request at once, except for one second in which it does nothing."""

    def __init__(self, stall_after_requests: int | None, status: str = "200 OK", head: str = "") -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.stall_after, self.requests = stall_after_requests, 0
        self.status, self.head = status, head
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.ended.set()
        self.thread.join(10)
        self.listener.close()

    def serve(self) -> None:
        waiting = selectors.DefaultSelector()
        waiting.register(self.listener, selectors.EVENT_READ)
        while not self.ended.is_set():
            for key, _ in waiting.select(0.1):
                if key.fileobj is self.listener:
                    waiting.register(self.listener.accept()[0], selectors.EVENT_READ)
                elif data := key.fileobj.recv(65536):
                    self.requests += 1
                    if self.requests == self.stall_after:
                        time.sleep(1)
                    profile = data.split(b" ", 2)[1].rpartition(b"/")[2].decode()
                    body = json.dumps({"id": profile}, separators=(",", ":"))
                    head = f"HTTP/1.1 {self.status}\r\n{self.head}Content-Length: {len(body)}\r\n\r\n"
                    key.fileobj.sendall((head + body).encode())
                else:
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()
