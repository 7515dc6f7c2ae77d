"""etcd's HTTP gateway, asked from a member's own host over the deploy's connection: the operator's machine need
not reach etcd, and has no certificate for it.
"""

from __future__ import annotations

import json
import shlex
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from pyinfra.api.host import Host as PyinfraHost

from cluster.errors import Failure
from cluster.pki import places
from deploys.framework import remote

CALL_SECONDS = 4


class Gateway:
    """Calls of the v3 JSON gateway. Keys and values are text here, base64 on the wire."""

    def __init__(self, hosts: Iterable[PyinfraHost], port: int) -> None:
        """`hosts`: members; each is tried in turn, beginning with the one that answered last."""
        self._hosts = list(hosts)
        self._port = port

    def call(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """One POST; the answer's document. Raises Failure if no member answers.

        It may be sent to a second member where the first did not answer in time: give it only what bears that.
        """
        problem = "etcd does not answer: group etcd has no host"
        for host in list(self._hosts):
            try:
                ok, output = remote.ask(
                    host, curl(path, self._port), "etcd", CALL_SECONDS + 1, stdin=json.dumps(content)
                )
            except remote.Unreachable as unreachable:
                problem = f"etcd does not answer: {unreachable}"
                continue
            try:
                answer = json.loads("\n".join(output.stdout_lines)) if ok else None
            except json.JSONDecodeError:
                answer = None
            if isinstance(answer, dict) and "error" not in answer:
                self._hosts.sort(key=lambda each: each is not host)
                return answer
            if isinstance(answer, dict):
                problem = f"etcd refuses {path}: {host.name}: {answer['error']}"
            else:
                problem = f"etcd does not answer: {host.name}: {output.output.strip() or 'no answer'}"
        raise Failure(problem)

    def get(self, key: str) -> tuple[str, int] | None:
        """A key's value and mod_revision; None if it does not exist."""
        for pair in self.call("kv/range", {"key": encode(key)}).get("kvs", ()):
            return b64decode(pair.get("value", "")).decode(), int(pair["mod_revision"])
        return None


def curl(path: str, port: int) -> str:
    """A shell command that posts its standard input, as root of a member's host."""
    pki = " ".join(
        f"--{option} {places.ETCD}/{name}"
        for option, name in (("cacert", "ca.crt"), ("cert", "member.crt"), ("key", "member.key"))
    )
    url = shlex.quote(f"https://127.0.0.1:{port}/v3/{path}")
    return f"curl -sS -m {CALL_SECONDS} {pki} --data-binary @- {url}"


def encode(text: str) -> str:
    return b64encode(text.encode()).decode()
