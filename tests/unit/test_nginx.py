"""The proxies' nginx with its Lua program, in front of a real store worker and a real front."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import pytest

from deploys.proxy.nginx import NginxValues, check_conf, lua_files, nginx_conf
from deploys.smoke import deploy as smoke
from services import sp
from services.client import StoreClient
from tests.unit import serving as serving_path
from tests.unit.serving import NGINX, ServingPath, nginx_missing
from tests.unit.stores import free_port, wait_until

pytestmark = pytest.mark.skipif(nginx_missing() is not None, reason=str(nginx_missing()))
PROFILE = b'{"name":"Ada","age":36}'
STORED = b'{"id":"ada","name":"Ada","age":36}'


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingPath]:
    serving = ServingPath(tmp_path_factory.mktemp("nginx"))
    serving.start_store()
    serving.start_front()
    serving.start_nginx()
    yield serving
    serving.stop()


@pytest.fixture(scope="module")
def etag(path: ServingPath) -> str:
    answer = path.ask("PUT", "/v1/profiles/ada", PROFILE)
    assert (answer.status, answer.headers["x-lane"]) == (204, "wsgi")
    return answer.headers["etag"]


@pytest.mark.parametrize(("target", "lane", "good"), [
    (smoke.PROBE, "direct", True), (smoke.WSGI_PROBE, "wsgi", True), (smoke.PROBE, "wsgi", False),
])  # fmt: skip
def test_a_deploys_gate_knows_the_lanes(path: ServingPath, target: str, lane: str, good: bool) -> None:
    command = smoke.probe(f"http://127.0.0.1:{path.ports['nginx']}{target}", lane)
    assert (subprocess.run(["sh", "-c", command], capture_output=True).returncode == 0) == good


def test_both_lanes_give_the_same_answer(path: ServingPath, etag: str) -> None:
    answers = {lane: path.ask("GET", "/v1/profiles/ada", X_Lane=lane) for lane in ("direct", "wsgi")}
    for lane, answer in answers.items():
        assert (answer.status, answer.body) == (200, STORED)
        assert answer.headers["x-lane"] == lane
        assert answer.headers["x-release"] == "dev"
        assert answer.headers["etag"] == etag
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(STORED))
    assert path.ask("GET", "/v1/profiles/ada").headers["x-lane"] == "direct"
    assert path.ask("GET", "/v1/profiles/ada", X_Lane="other").headers["x-lane"] == "direct"


@pytest.mark.parametrize("lane", ["direct", "wsgi"])
def test_head_and_conditional_reads(path: ServingPath, etag: str, lane: str) -> None:
    head = path.ask("HEAD", "/v1/profiles/ada", X_Lane=lane)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(STORED)))
    same = path.ask("GET", "/v1/profiles/ada", X_Lane=lane, If_None_Match=etag)
    assert (same.status, same.body, same.headers["etag"], same.headers["x-lane"]) == (304, b"", etag, lane)
    assert path.ask("GET", "/v1/profiles/ada", X_Lane=lane, If_None_Match='"other"').status == 200


@pytest.mark.parametrize("lane", ["direct", "wsgi"])
@pytest.mark.parametrize(
    ("name", "status"),
    [("nobody", 404), ("a%20b", 400), ("-a", 400), ("%c3%a5", 400), ("x" * 65, 400), ("x" * 64, 404), ("", 400),
     ("a%00b", 400), ("a%2fb", 404), ("..%2f..", 404)],
)  # fmt: skip
def test_no_profile_and_no_id(path: ServingPath, lane: str, name: str, status: int) -> None:
    answer = path.ask("GET", f"/v1/profiles/{name}", X_Lane=lane)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    if name != "a%00b":  # this nginx itself refuses
        assert answer.json.get("field") == ("id" if status == 400 else None)
    assert {"x-lane", "x-release"} <= set(answer.headers)


def test_every_answer_says_lane_and_release(path: ServingPath) -> None:
    for method, target, status, lane in [
        ("GET", "/healthz", 200, "proxy"), ("GET", "/readyz", 200, "wsgi"), ("GET", "/version", 200, "wsgi"),
        ("GET", "/nothing", 404, "wsgi"), ("PATCH", "/v1/profiles/ada", 405, "wsgi"),
        ("GET", "/nginx_status", 200, "proxy"), ("GET", "/_problem", 404, "proxy"),
    ]:  # fmt: skip
        answer = path.ask(method, target)
        assert (answer.status, answer.headers["x-lane"], answer.headers["x-release"]) == (status, lane, "dev"), (
            target
        )


def test_a_profile_is_deleted_once_and_only_as_it_is_known(path: ServingPath) -> None:
    first = path.ask("PUT", "/v1/profiles/gone", PROFILE).headers["etag"]
    second = path.ask("PUT", "/v1/profiles/gone", PROFILE, If_Match=first).headers["etag"]
    assert path.ask("PUT", "/v1/profiles/gone", PROFILE, If_None_Match="*").status == 412
    assert path.ask("DELETE", "/v1/profiles/gone", If_Match=first).status == 412
    assert path.ask("DELETE", "/v1/profiles/gone", If_Match=f'"x", {second}').status == 204
    assert path.ask("DELETE", "/v1/profiles/gone").status == 404
    assert {path.ask("GET", "/v1/profiles/gone", X_Lane=lane).status for lane in ("direct", "wsgi")} == {404}
    assert path.ask("PUT", "/v1/profiles/gone", PROFILE, If_Match="*").status == 412


def test_limits_on_what_a_client_sends(path: ServingPath) -> None:
    for answer, status, field in [
        (path.ask("PUT", "/v1/profiles/big", b"x" * 70_000), 413, "body"),
        (path.ask("GET", "/v1/profiles/ada", X_Long="x" * 9000), 431, "headers"),
        (path.ask("GET", "/" + "x" * 9000), 414, "path"),
    ]:
        assert (answer.status, answer.json["status"], answer.headers["x-release"]) == (status, status, "dev")
        assert answer.json["field"] == field
    with socket.create_connection(("127.0.0.1", path.ports["nginx"]), timeout=5) as connection:
        connection.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_put_that_is_sent_in_chunks_reaches_the_front_with_its_length(path: ServingPath) -> None:
    with socket.create_connection(("127.0.0.1", path.ports["nginx"]), timeout=5) as connection:
        size = f"{len(PROFILE):x}".encode()
        connection.sendall(
            b"PUT /v1/profiles/chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + size + b"\r\n" + PROFILE + b"\r\n0\r\n\r\n"
        )  # fmt: skip
        assert connection.recv(100).startswith(b"HTTP/1.1 204 ")


def test_many_requests_on_many_connections(path: ServingPath, etag: str) -> None:
    wrong: list[object] = []

    def work() -> None:
        for _ in range(60):
            answer = path.ask("GET", "/v1/profiles/ada")
            if answer.body != STORED:
                wrong.append(answer)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_store_gets_the_requests_deadline(tmp_path: Path) -> None:
    """The frame on the wire, byte for byte."""
    serving = ServingPath(tmp_path / "wire")
    with socket.create_server(("127.0.0.1", serving.ports["store"])) as listener:
        listener.settimeout(5)
        serving.start_nginx()
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(serving.ask("GET", "/v1/profiles/p1")))
        thread.start()
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(8, socket.MSG_WAITALL) == sp.HELLO_REQ
            connection.sendall(sp.HELLO_REP)
            head = connection.recv(12, socket.MSG_WAITALL)
            payload = connection.recv(int.from_bytes(head[:8], "big") - 4, socket.MSG_WAITALL)
            assert payload == sp.request(sp.GET, b"profile/p1", budget_ms=150)
            record = b"\0" * 9 + b"\1" + b"{}"
            body = sp.reply_prefix(sp.OK, b"r-other") + record
            connection.sendall((4 + len(body)).to_bytes(8, "big") + head[8:12] + body)
            thread.join()
        assert (answers[0].status, answers[0].body, answers[0].headers["x-release"]) == (200, b"{}", "r-other")
    serving.stop()


def test_requests_share_a_connection_and_each_gets_its_own_reply(tmp_path: Path) -> None:
    """Replies come in another order than the questions, and in pieces that end anywhere."""
    serving = ServingPath(tmp_path / "shared", proxy={"deadline_ms": 5000})
    count, answers = 20, {}
    with socket.create_server(("127.0.0.1", serving.ports["store"])) as listener:
        listener.settimeout(5)
        serving.start_nginx()

        def get(number: int) -> None:
            answers[number] = serving.ask("GET", f"/v1/profiles/p{number}").body

        threads = [threading.Thread(target=get, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = connection.makefile("rb")
            assert stream.read(8) == sp.HELLO_REQ
            connection.sendall(sp.HELLO_REP)
            replies = []
            for _ in range(count):
                head = stream.read(12)
                asked = sp.parse_request(stream.read(int.from_bytes(head[:8], "big") - 4)).body
                body = sp.reply_prefix(sp.OK, b"r") + b"\0" * 9 + b"\1" + asked
                replies.append((4 + len(body)).to_bytes(8, "big") + head[8:12] + body)
            sent = b"".join(reversed(replies))
            for at in range(0, len(sent), 37):
                connection.sendall(sent[at : at + 37])
                time.sleep(0.001)
            for thread in threads:
                thread.join()
            with pytest.raises(TimeoutError):
                listener.settimeout(0.1)
                listener.accept()
    serving.stop()
    assert answers == {number: b"profile/p%d" % number for number in range(count)}


def test_a_late_reply_answers_nobody_else(tmp_path: Path) -> None:
    """The request that it is for has been given up, and what is asked next goes by a new connection."""
    serving = ServingPath(tmp_path / "late")
    answers: list = []

    def get(name: str) -> threading.Thread:
        thread = threading.Thread(target=lambda: answers.append(serving.ask("GET", f"/v1/profiles/{name}")))
        thread.start()
        return thread

    def asked(stream: BinaryIO) -> tuple[bytes, sp.Request] | None:
        """The ID of the next question, and itself; None where the connection has ended."""
        head = stream.read(12)
        return (head[8:], sp.parse_request(stream.read(int.from_bytes(head[:8], "big") - 4))) if head else None

    def asked_anew() -> tuple[socket.socket, BinaryIO, bytes, sp.Request]:
        """The next connection on which a question comes; on a busy machine nginx gives some up before."""
        while True:
            connection, _ = listener.accept()
            connections.enter_context(connection)
            with contextlib.suppress(OSError):
                connection.sendall(sp.HELLO_REP)
                stream = connections.enter_context(connection.makefile("rb"))
                if stream.read(8) == sp.HELLO_REQ and (question := asked(stream)):
                    return connection, stream, *question

    def answer(connection: socket.socket, request_id: bytes, text: bytes) -> None:
        body = sp.reply_prefix(sp.OK, b"r") + b"\0" * 9 + b"\1" + text
        connection.sendall((4 + len(body)).to_bytes(8, "big") + request_id + body)

    with contextlib.ExitStack() as connections:
        listener = connections.enter_context(socket.create_server(("127.0.0.1", serving.ports["store"])))
        listener.settimeout(5)
        serving.start_nginx()
        first = get("first")
        unanswered = []
        for _ in range(2):  # the second is its one retry
            connection, _, request_id, request = asked_anew()
            unanswered.append((connection, request_id, request))
        first.join()
        connection, stream, request_id, probe = asked_anew()  # the worker is left alone until it answers this
        assert probe.operation == sp.PING
        answer(connection, request_id, b"")
        time.sleep(0.1)
        second = get("second")
        fresh_id, question = asked(stream)
        assert question.body == b"profile/second"
        for old, request_id, request in unanswered:
            assert request.body == b"profile/first"
            with contextlib.suppress(OSError):
                answer(old, request_id, b"first")
        time.sleep(0.05)
        answer(connection, fresh_id, b"second")
        second.join()
    serving.stop()
    assert [(answer.status, answer.body) for answer in answers[1:]] == [(200, b"second")]
    assert answers[0].status == 503


def test_a_connection_that_makes_way_for_a_new_one_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = lua_files()
    link = files["link.lua"].replace("QUESTIONS_MOST = 100000", "QUESTIONS_MOST = 7")
    assert link != files["link.lua"]
    monkeypatch.setattr("tests.unit.serving.lua_files", lambda: files | {"link.lua": link})
    serving = ServingPath(tmp_path / "makes-way", proxy={"deadline_ms": 2000})
    serving.start_store()
    serving.start_nginx()
    try:
        statuses: list[int] = []

        def work() -> None:
            statuses.extend(serving.ask("GET", "/v1/profiles/nobody").status for _ in range(50))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [404] * 200
    finally:
        serving.stop()


def test_reloads_under_load_lose_no_read_and_leave_no_worker(tmp_path: Path) -> None:
    serving = ServingPath(tmp_path / "reload")
    serving.start_store()
    nginx = serving.start_nginx(worker_processes="2")
    stop, statuses = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            statuses.append(serving.ask("GET", "/v1/profiles/nobody", Connection="close").status)

    def workers() -> int:
        return len(Path(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read_text().split())

    threads = [threading.Thread(target=load) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        with socket.create_connection(("127.0.0.1", serving.ports["nginx"]), timeout=5) as opened_before:
            for _ in range(3):
                time.sleep(0.3)
                nginx.send_signal(signal.SIGHUP)
            time.sleep(1.5)
            opened_before.sendall(b"GET /v1/profiles/nobody HTTP/1.1\r\nHost: x\r\n\r\n")
            first = opened_before.recv(100)
            assert first == b"" or first.startswith(b"HTTP/1.1 404 ")
        wait_until("the old workers have ended", lambda: workers() == 2, 9)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        serving.stop()
    assert len(statuses) > 200
    assert set(statuses) == {404}
    assert "[alert]" not in serving.log()


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        sp.HELLO_REP + b"\xff" * 16,
        sp.HELLO_REP + (2**31).to_bytes(8, "big") + b"\x80\0\0\1G\1\0\0",
        sp.HELLO_REP + (20).to_bytes(8, "big") + b"\x80\0\0\x63G\1\0\0" + b"x" * 12,  # another request's ID
        sp.HELLO_REP + (8).to_bytes(8, "big") + b"\x80\0\0\1X\1\0\0",
        sp.HELLO_REP + (9).to_bytes(8, "big") + b"\x80\0\0\1G\1\0\x09r",  # release longer than the reply
        sp.HELLO_REP,
        b"",
    ],
)
def test_a_store_worker_that_talks_nonsense_is_a_503_in_time(tmp_path: Path, sent: bytes) -> None:
    serving = ServingPath(tmp_path / "nonsense")
    stop = threading.Event()

    def talk(listener: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.sendall(sent)
            held.append(connection)

    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", serving.ports["store"])) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=talk, args=(listener,))
        thread.start()
        try:
            serving.start_nginx()
            started = time.monotonic()
            answer = serving.ask("GET", "/v1/profiles/p1")
            assert time.monotonic() - started < 0.8
            assert (answer.status, answer.headers["retry-after"], answer.headers["x-lane"]) == (503, "1", "direct")
            assert answer.headers["x-release"] == "dev"
        finally:
            stop.set()
            thread.join()
            serving.stop()


def test_a_read_is_asked_of_another_worker_when_one_is_gone_or_silent(tmp_path: Path) -> None:
    serving = ServingPath(tmp_path / "two", workers=2)
    first, second = serving.start_store(0), serving.start_store(1)
    serving.start_nginx()
    try:
        for ipc in serving.ipc:
            client = StoreClient([ipc])
            assert client.ask(sp.TRANSACT, sp.transact_body({}, {b"profile/p1": b"{}"}), 2000).status == sp.OK
            client.close()
        assert {serving.ask("GET", "/v1/profiles/p1").status for _ in range(20)} == {200}
        first.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        assert [serving.ask("GET", "/v1/profiles/p1").status for _ in range(40)] == [200] * 40
        assert time.monotonic() - started < 3  # it is left alone after the first that it kept waiting
        first.send_signal(signal.SIGCONT)
        first.kill()
        first.wait()
        assert [serving.ask("GET", "/v1/profiles/p1").status for _ in range(40)] == [200] * 40
        second.kill()
        second.wait()
        assert serving.ask("GET", "/v1/profiles/p1").status == 503
        serving.start_store(0)
        wait_until("it is found again", lambda: serving.ask("GET", "/v1/profiles/p1").status == 404, 5)
    finally:
        serving.stop()


def test_retries_are_a_tenth_of_the_requests_and_some_in_hand(tmp_path: Path) -> None:
    """A store that refuses everything is not asked twice by everyone."""
    serving = ServingPath(tmp_path / "budget", workers=2)
    stop, asked = threading.Event(), []

    def refuse(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(0.2)
            connection.sendall(sp.HELLO_REP)
            assert connection.recv(8, socket.MSG_WAITALL) == sp.HELLO_REQ
            while not stop.is_set():
                try:
                    head = connection.recv(12, socket.MSG_WAITALL)
                except TimeoutError:
                    continue
                if len(head) < 12:
                    return
                connection.recv(int.from_bytes(head[:8], "big") - 4, socket.MSG_WAITALL)
                asked.append(1)
                body = sp.reply_prefix(sp.UNAVAILABLE, b"r") + b"no"
                connection.sendall((4 + len(body)).to_bytes(8, "big") + head[8:12] + body)

    def listen(listener: socket.socket) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=refuse, args=(connection,), daemon=True).start()

    listeners = [socket.create_server(("127.0.0.1", serving.ports["store"] + i)) for i in range(2)]
    threads = [threading.Thread(target=listen, args=(listener,)) for listener in listeners]
    try:
        for listener, thread in zip(listeners, threads, strict=True):
            listener.settimeout(0.1)
            thread.start()
        serving.start_nginx()
        answers = [serving.ask("GET", "/v1/profiles/p1") for _ in range(100)]
        assert {(answer.status, answer.headers["retry-after"]) for answer in answers} == {(503, "1")}
        assert 100 + 20 <= len(asked) <= 100 + 20 + 10 + 1
    finally:
        stop.set()
        for listener, thread in zip(listeners, threads, strict=True):
            thread.join()
            listener.close()
        serving.stop()


def test_restarting_store_workers_under_load_loses_no_read(tmp_path: Path) -> None:
    serving = ServingPath(tmp_path / "restarts", workers=2)
    workers = {i: serving.start_store(i) for i in range(2)}
    serving.start_nginx()
    stop, statuses = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            statuses.append(serving.ask("GET", "/v1/profiles/nobody").status)

    threads = [threading.Thread(target=load) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(2):
            for i in range(2):
                workers[i].send_signal(signal.SIGTERM)
                assert workers[i].wait(5) == 0
                workers[i] = serving.start_store(i)
                time.sleep(0.3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        serving.stop()
    assert len(statuses) > 200
    assert set(statuses) == {404}


def test_no_front_is_a_503_that_says_so(tmp_path: Path) -> None:
    serving = ServingPath(tmp_path / "nofront")
    serving.start_nginx()
    try:
        for method, body in (("GET", None), ("PUT", PROFILE)):
            answer = serving.ask(method, "/v1/profiles/ada", body, X_Lane="wsgi")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert (answer.headers["x-lane"], answer.headers["x-release"]) == ("wsgi", "dev")
            assert answer.json["detail"] == "no front worker answered"
    finally:
        serving.stop()


def test_fronts_that_are_restarted_under_load_lose_no_request(tmp_path: Path) -> None:
    serving = ServingPath(tmp_path / "twofronts")
    other = ServingPath(tmp_path / "other")
    other.configuration["store"]["ipc"] = serving.configuration["store"]["ipc"]
    serving.start_store()
    serving.start_feed()
    places = [serving, other]
    fronts = [place.start_front() for place in places]
    ports = [serving.ports["front"], other.ports["front"]]
    serving.upstream["front_ports"] = ports
    serving.start_nginx()
    stop, statuses = threading.Event(), []

    def load(number: int) -> None:
        i = 0
        while not stop.is_set():
            i += 1
            if i % 5:
                statuses.append(serving.ask("GET", "/v1/profiles/nobody", X_Lane="wsgi").status)
            elif i % 2:
                statuses.append(serving.ask("PUT", f"/v1/profiles/n{number}", PROFILE).status)
            else:
                body, key = b'{"from":"a","text":"hello"}', f"{number}-{i}"
                answer = serving.ask("POST", "/v1/profiles/ada/messages", body, Idempotency_Key=key)
                statuses.append(answer.status)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    try:
        assert serving.ask("PUT", "/v1/profiles/ada", PROFILE).status == 204
        for thread in threads:
            thread.start()
        for i in (0, 1, 0):
            time.sleep(0.5)
            fronts[i].send_signal(signal.SIGTERM)
            assert fronts[i].wait(8) == 0
            time.sleep(0.5)
            fronts[i] = places[i].start_front()
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        assert len(statuses) > 200
        assert set(statuses) == {404, 204, 201}
        posted = statuses.count(201)
        wait_until("each message arrived once", lambda: feed_length(serving, "ada") == posted, 5)
    finally:
        stop.set()
        for thread in threads:
            thread.is_alive() and thread.join()
        serving.stop()
        other.stop()


def test_a_stall_of_all_fronts_is_waited_for(tmp_path: Path) -> None:
    """nginx lets each of them rest for a second after it kept a request waiting; but there is nobody else."""
    serving, other = ServingPath(tmp_path / "one"), ServingPath(tmp_path / "other")
    other.configuration["store"]["ipc"] = serving.configuration["store"]["ipc"]
    serving.start_store(deadline_ms=600)
    masters = [serving.start_front(), other.start_front()]
    ports = [serving.ports["front"], other.ports["front"]]
    serving.upstream["front_ports"] = ports
    serving.start_nginx(deadline_ms=600)
    workers = [
        int(pid)
        for master in masters
        for pid in Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
    ]
    stop, statuses = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            statuses.append(serving.ask("GET", "/v1/profiles/nobody", X_Lane="wsgi").status)

    threads = [threading.Thread(target=load) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1)  # longer than nginx waits for an answer (750 ms), shorter than two attempts
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        time.sleep(1.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        serving.stop()
        other.stop()
    assert len(workers) == 2
    assert len(statuses) > 100
    assert set(statuses) == {404}


def feed_length(serving: ServingPath, owner: str) -> int:
    query, length = "?limit=100", 0
    while True:
        page = serving.ask("GET", f"/v1/profiles/{owner}/feed{query}").json
        length += len(page["items"])
        if page["next"] is None:
            return length
        query = f"?limit=100&before={page['next']}"


# --- configuration ---------------------------------------------------------------------------------------


def staged(directory: Path, **values: object) -> Path:
    """A tree as the deploys stage it."""
    nginx = directory / "etc/nginx"
    (nginx / "lua").mkdir(parents=True)
    (directory / "etc/griddle").mkdir()
    for name, content in lua_files().items():
        (nginx / "lua" / name).write_text(content)
    settings = {
        "fronts": 1,
        "stores": 1,
        "default_release": "r-1",
        "pid": str(directory / "pid"),
        "listen": f"127.0.0.1:{free_port()}",
        "error_log": str(directory / "error.log"),
        "access_log": str(directory / "access.log"),
        "temp": str(directory),
    }
    (nginx / "nginx.conf").write_text(nginx_conf(NginxValues(**(settings | values))))
    (nginx / "check.conf").write_text(check_conf())
    upstream = {"address": "10.0.0.1", "release": "r-1", "store_ports": [7000], "front_ports": [8000]}
    (directory / "etc/griddle/griddle.json").write_text(json.dumps({"proxy": {"upstreams": [upstream]}}))
    return nginx


def check(nginx: Path, file: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [NGINX, *options, "-p", f"{nginx}/", "-c", str(nginx / file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_a_staged_tree_is_accepted(tmp_path: Path) -> None:
    nginx = staged(tmp_path)
    for done in (check(nginx, "nginx.conf", "-t", "-q"), check(nginx, "check.conf")):
        assert (done.returncode, done.stderr) == (0, "")


def test_the_configuration_has_room_for_the_largest_cluster(tmp_path: Path) -> None:
    workers = 3 * 99 * 2  # hosts, workers on each, slots
    done = check(staged(tmp_path, fronts=workers, stores=workers), "nginx.conf", "-t", "-q")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("../griddle/griddle.json", "{", "griddle.json"),
        ("../griddle/griddle.json", '{"proxy":{}}', "proxy.upstreams is empty"),
        (
            "../griddle/griddle.json",
            '{"proxy":{"upstreams":[{"address":"10.0.0.1","release":"r-1","store_ports":[7000]}]}}',
            "10.0.0.1 has no front_ports",
        ),
        ("lua/store.lua", "local = 1", "store.lua"),
    ],
)
def test_what_cannot_work_is_refused_before_it_takes_effect(
    tmp_path: Path, file: str, content: str, words: str
) -> None:
    nginx = staged(tmp_path)
    (nginx / file).write_text(content)
    done = check(nginx, "check.conf")
    assert done.returncode == 1
    assert words in done.stderr


# --- those who are gone ------------------------------------------------------------------------------------


@contextlib.contextmanager
def nobody(address: str, port: int) -> Iterator[None]:
    """An address at which no SYN is answered, as with a host without power: its queue is full, and stays so."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.create_server((address, port), backlog=0))
        for _ in range(4):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield
        listener.close()


def another_host(serving: ServingPath, address: str) -> None:
    """One more app host in the proxies' eyes, with the same ports."""
    serving.configuration["proxy"]["upstreams"].append(serving.upstream | {"host": address, "address": address})


@pytest.mark.parametrize("lane", ["direct", "wsgi"])
def test_a_host_that_is_gone_fails_no_request_and_is_asked_by_none(tmp_path: Path, lane: str) -> None:
    serving = ServingPath(tmp_path / "gone")
    serving.start_store()
    serving.start_front()
    serving.start_feed()
    another_host(serving, "127.0.0.2")
    statuses, longest = set(), []
    with nobody("127.0.0.2", serving.ports["store"]), nobody("127.0.0.2", serving.ports["front"]):
        serving.start_nginx()
        try:
            assert serving.ask("PUT", "/v1/profiles/ada", PROFILE).status == 204
            for number in range(60):
                started = time.monotonic()
                read = serving.ask("GET", "/v1/profiles/ada", X_Lane=lane)
                put = serving.ask("PUT", "/v1/profiles/ada", PROFILE)
                post = serving.ask(
                    "POST", "/v1/profiles/ada/messages", b'{"from":"a","text":"x"}', Idempotency_Key=f"k{number}"
                )
                statuses.add((read.status, put.status, post.status))
                longest.append(time.monotonic() - started)
                time.sleep(0.03)  # some 3 s in all
        finally:
            serving.stop()
    assert statuses == {(200, 204, 201)}
    assert sorted(longest)[30] < 0.09
    # connecting takes 100 ms there: no more than its first requests have waited for that
    assert serving.log().count("upstream timed out") <= 3


def test_a_host_that_comes_back_slowly_is_asked_once_it_answers(tmp_path: Path) -> None:
    """It accepts connections long before anybody serves there."""
    serving = ServingPath(tmp_path / "slow")
    serving.start_store()
    front = serving.start_front()
    slow = ServingPath(tmp_path / "other")
    serving.upstream["front_ports"].append(slow.ports["front"])
    serving.start_nginx()
    try:
        assert {serving.ask("PUT", f"/v1/profiles/p{i}", PROFILE).status for i in range(10)} == {204}
        with socket.create_server(("127.0.0.1", slow.ports["front"])):
            deadline = time.monotonic() + 2
            started = [time.monotonic()]
            while started[-1] < deadline:
                assert serving.ask("PUT", "/v1/profiles/ada", PROFILE).status == 204
                started.append(time.monotonic())
        assert max(later - earlier for earlier, later in pairwise(started)) < 1
        slow.configuration["store"]["ipc"] = serving.configuration["store"]["ipc"]
        slow.start_front()
        wait_until("it is found", lambda: "answers again" in serving.log(), 5)
        front.kill()
        front.wait()
        assert {serving.ask("PUT", f"/v1/profiles/p{i}", PROFILE).status for i in range(10)} == {204}
    finally:
        serving.stop()
        slow.stop()


def test_a_write_that_is_only_slow_is_not_done_twice(tmp_path: Path) -> None:
    serving, other = ServingPath(tmp_path / "one"), ServingPath(tmp_path / "other")
    other.configuration["store"]["ipc"] = serving.configuration["store"]["ipc"]
    store = serving.start_store()
    fronts = [serving.start_front(), other.start_front()]
    assert len(fronts) == 2
    serving.upstream["front_ports"].append(other.ports["front"])
    serving.start_nginx(write_timeout_ms=1000)
    try:
        first = serving.ask("PUT", "/v1/profiles/ada", PROFILE).headers["etag"]
        store.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        assert serving.ask("PUT", "/v1/profiles/ada", b'{"name":"Bob"}').status == 503
        assert 1 <= time.monotonic() - started < 1.9
        store.send_signal(signal.SIGCONT)
        wait_until("it is done", lambda: serving.ask("GET", "/v1/profiles/ada").json["name"] == "Bob", 5)
        etag = serving.ask("GET", "/v1/profiles/ada").headers["etag"]
        time.sleep(0.5)
        assert serving.ask("GET", "/v1/profiles/ada").headers["etag"] == etag != first
    finally:
        serving.stop()
        other.stop()


@contextlib.contextmanager
def simple_front(port: int, seconds: float, breaks: bool = False) -> Iterator[None]:
    """It answers everything after a while, or ends the connection instead; as long as this lasts."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            if b"/healthz" not in line:
                time.sleep(seconds)
                if breaks:
                    return
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield
        server.shutdown()


def test_a_front_is_not_left_alone_because_a_client_has_gone(tmp_path: Path) -> None:
    serving, good = ServingPath(tmp_path / "gone"), free_port()
    bad = serving.ports["front"]
    serving.upstream["front_ports"].append(good)
    with simple_front(bad, 0, breaks=True), simple_front(good, 0.3):
        serving.start_nginx()
        try:
            for _ in range(12):
                with socket.create_connection(("127.0.0.1", serving.ports["nginx"])) as client:
                    client.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
                    time.sleep(0.1)
            wait_until("the bad one was tried", lambda: f"127.0.0.1:{bad} is left alone" in serving.log(), 5)
            time.sleep(0.3)
        finally:
            serving.stop()
    assert f"127.0.0.1:{good} is left alone" not in serving.log()


def test_what_is_in_flight_at_a_front_is_never_less_than_nothing(tmp_path: Path, monkeypatch) -> None:
    """Such a front would be the less busy one, whatever it has to do. A count begins anew in between here."""
    lua, conf = serving_path.lua_files(), serving_path.nginx_conf
    lua["fronts.lua"] = lua["fronts.lua"].replace("COUNT_SECONDS = 10", "COUNT_SECONDS = 1")
    show = "location = /counts { content_by_lua_block { for _, key in ipairs(ngx.shared.fronts:get_keys()) do "
    show += "ngx.say(ngx.shared.fronts:get(key)) end } } location / {"
    monkeypatch.setattr(serving_path, "lua_files", lambda: lua)
    monkeypatch.setattr(serving_path, "nginx_conf", lambda values: conf(values).replace("location / {", show, 1))
    serving = ServingPath(tmp_path / "counts")
    with simple_front(serving.ports["front"], 1.5):
        serving.start_nginx()
        try:
            asking = [threading.Thread(target=serving.ask, args=("DELETE", "/v1/profiles/ada")) for _ in range(5)]
            for thread in asking[1:]:
                thread.start()
            time.sleep(1.2)
            asking[0].start()
            for thread in asking[1:]:
                thread.join()
            counts = serving.ask("GET", "/counts").body.split()
            asking[0].join()
        finally:
            serving.stop()
    assert all(int(count) >= 0 for count in counts), counts


def test_an_nginx_worker_has_a_connection_to_each_of_many_store_workers(tmp_path: Path) -> None:
    """As three hosts may have, with every one of them replaced at once; nginx's own limit is 256 timers."""
    serving = ServingPath(tmp_path / "many")
    store = serving.start_store()
    serving.upstream["store_ports"] *= 3 * 99
    serving.start_nginx(worker_connections=2048, file_limit=4096)
    statuses: list[int] = []

    def load() -> None:
        statuses.extend(serving.ask("GET", "/v1/profiles/nobody").status for _ in range(300))

    try:
        for _ in range(2):
            threads = [threading.Thread(target=load) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(statuses) == {404}
            statuses.clear()
            store.kill()
            store.wait()
            store = serving.start_store()
            wait_until("it is found", lambda: serving.ask("GET", "/v1/profiles/nobody").status == 404, 5)
        assert "are not enough" not in serving.log()
    finally:
        serving.stop()
