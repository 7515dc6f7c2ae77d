"""Marks: what was done to the cluster, on the time axis of every chart, and in the operators' chat.

    with marks.span(cluster, "fdb", "upgrade 7.3.77 to 7.3.78"):
        ...
    marks.mark(cluster, "flag", "lane: wsgi")

A mark is a sample in the metrics store (docs/metrics.md) and, where ``notify_webhook_url`` is set, a message in
Slack's format. Both are sent by a process of their own, so that nothing waits for them or fails with them. How
that went is a line in .griddle/clusters/<cluster>/marks.log.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster import ssh
from cluster.model import Cluster
from cluster.paths import CLUSTERS, ROOT
from cluster.progress import say
from cluster.ssh import CURL

KINDS = ("deploy", "fdb", "etcd", "release", "flag", "experiment", "drill", "tuning", "note")
WEBHOOK_SECONDS = 2
STORE_SECONDS = 8
TEXT_LIMIT = 500  # characters of a title or a detail


def mark(cluster: Cluster, kind: str, title: str, **details: str) -> subprocess.Popen[bytes] | None:
    """Record a moment. Returns the sender at once, for who wants to wait; None where it could not be started.

    :param kind: one of KINDS
    :param details: more labels, such as ``reason``; one that is named as a mark's own is not sent
    """
    return _send(cluster, kind, title, details | {"phase": "point", "id": _id()}, 0)


@contextlib.contextmanager
def span(cluster: Cluster, kind: str, title: str, **details: str) -> Iterator[dict[str, str]]:
    """Record the beginning and the end of what is done inside, and its outcome: done, failed or aborted.

    What is put into the dictionary that this gives becomes labels of the end; a mark's own are
    not overridden.
    """
    labels, started = details | {"id": _id()}, time.time()
    _send(cluster, kind, title, labels | {"phase": "start"}, 0)
    more: dict[str, str] = {}
    outcome: dict[str, str] = {}
    try:
        yield more
    except BaseException as error:
        outcome = _outcome(error)
        raise
    finally:
        end = more | labels | {"phase": "end", "outcome": "done"} | outcome
        _send(cluster, kind, title, end, time.time() - started)


def _outcome(error: BaseException) -> dict[str, str]:
    if isinstance(error, KeyboardInterrupt):
        return {"outcome": "aborted", "reason": "interrupted"}
    if isinstance(error, SystemExit) and not error.code:
        return {}
    # str() of click's own exceptions is their message.
    return {"outcome": "failed", "reason": str(error) or type(error).__name__}


def _id() -> str:
    return uuid.uuid4().hex[:8]


def line(labels: Mapping[str, str], value: float, seconds: float) -> str:
    """A sample in Prometheus's text format, whose labels may hold any text. Pure.

    :param seconds: when, since 1970
    """

    def quoted(text: str) -> str:
        return str(text)[:TEXT_LIMIT].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inside = ",".join(f'{name}="{quoted(text)}"' for name, text in labels.items())
    return f"griddle_mark{{{inside}}} {value:.3f} {seconds * 1000:.0f}\n"


def message(cluster: str, labels: Mapping[str, str], seconds: float) -> str:
    """What a person reads, with Slack's three special characters escaped. Pure."""
    what = {"start": "begins", "point": "", "end": labels.get("outcome", "done")}[labels["phase"]]
    took = f" after {seconds:.0f} s" if labels["phase"] == "end" else ""
    why = f"\n{labels['reason']}" if "reason" in labels else ""
    done = f": {what}{took}" if what else ""
    text = f"{cluster}: {labels['kind']} {labels['title']}{done}, by {labels['by']}{why}"
    return text[: 4 * TEXT_LIMIT].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _send(
    cluster: Cluster, kind: str, title: str, details: Mapping[str, str], value: float
) -> subprocess.Popen[bytes] | None:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}; one of: {', '.join(KINDS)}")
    try:
        return _start_sender(cluster, {**details, "kind": kind, "title": title, "by": getpass.getuser()}, value)
    except Exception as error:
        # What is marked matters more than the mark.
        say(f"griddle: {kind} {title} is not marked: {error}")
        return None


def _start_sender(cluster: Cluster, labels: Mapping[str, str], value: float) -> subprocess.Popen[bytes]:
    (store,) = cluster.group("metrics")
    order = {
        # On another connector than ssh (pyinfra's tests, a local run) there is nobody to send to.
        "ssh": ["ssh", *ssh.options(store), ssh.target(store)] if cluster.reached_by_ssh else None,
        "port": cluster.data["metrics_http_port"],
        "line": line(labels, value, time.time()),
        "webhook": cluster.data.get("notify_webhook_url"),
        "message": message(cluster.name, labels, value),
        "log": str(CLUSTERS / cluster.name / "marks.log"),
    }
    with tempfile.TemporaryFile() as file:  # not the command line: a webhook's address is a secret
        file.write(json.dumps(order).encode())
        file.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "cluster.marks"],
            cwd=ROOT, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def deliver(order: Mapping[str, Any]) -> dict[str, str]:
    """Send one mark to store and webhook at the same time; {whom: what went wrong} of those that failed."""
    failed: dict[str, str] = {}

    def attempt(whom: str, send: Any) -> None:
        try:
            send()
        except Exception as error:
            failed[whom] = str(error) or type(error).__name__

    tasks = {}
    if order["ssh"]:
        tasks["store"] = lambda: _to_store(order["ssh"], order["port"], order["line"])
    if order["webhook"]:
        tasks["webhook"] = lambda: _to_webhook(order["webhook"], order["message"])
    threads = [threading.Thread(target=attempt, args=task) for task in tasks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def _to_store(ssh: list[str], port: int, text: str) -> None:
    post = f"{CURL} -f --max-time 3 --data-binary @- http://127.0.0.1:{port}/api/v1/import/prometheus"
    done = subprocess.run([*ssh, post], input=text, capture_output=True, text=True, timeout=STORE_SECONDS)
    if done.returncode:
        raise OSError(done.stderr.strip() or f"exit code {done.returncode}")


def _to_webhook(url: str, text: str) -> None:
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS) as answer:
        answer.read(1)


def main() -> None:
    order = json.load(sys.stdin)
    failed = deliver(order)
    path = Path(order["log"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        problems = "; ".join(f"{whom}: {problem}" for whom, problem in failed.items())
        log.write(f"{order['line'].rstrip()}{' # not sent to ' if problems else ''}{problems}\n")


if __name__ == "__main__":
    main()
