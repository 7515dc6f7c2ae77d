"""Marks: what is sent, and that nothing that goes wrong with them reaches who marks."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster import marks, model
from tests.unit import clusters


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The usual cluster without a way to its store, whose marks go to `url`."""
    monkeypatch.setattr(marks, "CLUSTERS", tmp_path)

    def make(url: str = "") -> model.Cluster:
        made = clusters.cluster(notify_webhook_url=url)
        return model.Cluster(made.hosts, made.data, reached_by_ssh=False)

    return make


@pytest.fixture
def webhook():
    """A webhook that keeps what is posted to it: (url, [texts])."""
    texts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", texts
    server.shutdown()
    server.server_close()


def log_of(tmp_path, lines):
    """The log, once it has that many lines."""
    path, deadline = tmp_path / "prod" / "marks.log", time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and len(seen := path.read_text().splitlines()) == lines:
            return seen
        time.sleep(0.05)
    pytest.fail(f"{path} never had {lines} lines")


def test_any_text_is_a_label():
    title = 'say "hi" \\ there\n<script>}{'
    assert marks.line({"title": title}, 1.5, 1000) == (
        'griddle_mark{title="say \\"hi\\" \\\\ there\\n<script>}{"} 1.500 1000000\n'
    )


def test_a_message_is_safe_in_slack():
    labels = {"kind": "flag", "title": "a < b & c", "phase": "point", "by": "eve"}
    assert marks.message("prod", labels, 0) == "prod: flag a &lt; b &amp; c, by eve"


def test_a_span_says_what_came_of_it(cluster, webhook, tmp_path):
    url, texts = webhook
    with marks.span(cluster(url), "deploy", "all") as details:
        details["at"] = "app"
    with pytest.raises(RuntimeError), marks.span(cluster(url), "fdb", "upgrade"):
        raise RuntimeError("gate: data lag 61")
    with pytest.raises(KeyboardInterrupt), marks.span(cluster(url), "drill", "stop app1"):
        raise KeyboardInterrupt
    with pytest.raises(SystemExit), marks.span(cluster(url), "deploy", "again"):
        raise SystemExit(0)
    lines = log_of(tmp_path, 8)
    ends = {line.partition('title="')[2].partition('"')[0]: line for line in lines if 'phase="end"' in line}
    assert 'outcome="done"' in ends["all"] and 'at="app"' in ends["all"]
    assert 'outcome="failed",reason="gate: data lag 61"' in ends["upgrade"]
    assert 'outcome="aborted"' in ends["stop app1"]
    assert 'outcome="done"' in ends["again"]
    ids = [line.partition('id="')[2].partition('"')[0] for line in lines if 'title="upgrade"' in line]
    assert len(ids) == 2 and len(set(ids)) == 1
    assert any("fdb upgrade: failed" in text and "gate: data lag 61" in text for text in texts)
    assert any("fdb upgrade: begins" in text for text in texts)


def test_a_detail_does_not_take_the_place_of_a_marks_own_label(cluster, tmp_path):
    with marks.span(cluster(), "deploy", "all", id="mine") as details:
        details |= {"phase": "mine", "outcome": "mine", "title": "mine", "at": "app"}
    end = next(line for line in log_of(tmp_path, 2) if 'phase="end"' in line)
    assert "mine" not in end and 'at="app"' in end


def test_a_webhook_that_never_answers_costs_nothing(cluster, tmp_path):
    with socket.socket() as deaf:  # accepts, and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        started = time.monotonic()
        marks.mark(cluster(f"http://127.0.0.1:{deaf.getsockname()[1]}/"), "note", "hello")
        assert time.monotonic() - started < 0.5
        (line,) = log_of(tmp_path, 1)
        assert "not sent to webhook: timed out" in line
        assert time.monotonic() - started < marks.WEBHOOK_SECONDS + 3


def test_a_webhook_that_is_gone_fails_nothing(cluster, tmp_path):
    marks.mark(cluster("http://127.0.0.1:9/"), "note", "hello")
    (line,) = log_of(tmp_path, 1)
    assert "not sent to webhook" in line


def test_a_sender_that_cannot_start_fails_nothing(cluster, monkeypatch, capsys):
    monkeypatch.setattr(marks.sys, "executable", "/does/not/exist")
    assert marks.mark(cluster(), "note", "hello") is None
    assert "note hello is not marked" in capsys.readouterr().err
