"""The board of the running cluster, in a browser on the operator's machine."""

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests import browser as browsers
from tests.browser import Browser
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest

pytestmark = pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing()))


@pytest.fixture(scope="module")
def readers(lab: LabUnderTest) -> Iterator[None]:
    """Somebody reads."""
    lab.griddle("up")  # nothing, where other tests have left it serving
    done = threading.Event()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read() -> None:
        while not done.wait(0.05):
            try:
                opener.open(f"http://{lab.plan.virtual_ip}/v1/profiles/p1", timeout=2).read()
            except OSError:
                continue

    thread = threading.Thread(target=read)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture(scope="module")
def address(lab: LabUnderTest) -> str:
    metrics = lab.plan.host("metrics1")
    assert metrics
    return f"http://{metrics.address}/"


@pytest.fixture(scope="module")
def board(readers: None, address: str) -> Iterator[Browser]:
    with browsers.browser() as opened:
        opened.open(address)
        yield opened
        assert opened.console() == []


def test_real_numbers_appear(lab: LabUnderTest, board: Browser) -> None:
    board.wait("reads", lambda: re.match(r"[1-9][\d.]*/s", board.texts("#tiles .big")[2]), seconds=HANGS_SECONDS)
    share, p99, *_ = board.texts("#tiles .big")
    assert re.fullmatch(r"[\d.]+ %", share) and re.fullmatch(r"[\d.,]+ ms|> 1 s", p99)
    assert board.text("#cluster") == "lab"
    names = lab.reporting()
    up = "● up"
    board.wait("hosts", lambda: all(board.text(f"#host-{name} .state") == up for name in names), HANGS_SECONDS)
    board.wait("cpu", lambda: re.fullmatch(r"[\d.]+ %", board.text("#host-app1 .number")))
    board.wait("etcd", lambda: board.text("#members .sum") == "● healthy", HANGS_SECONDS)
    board.wait("the release", lambda: board.text("#release-table tbody th").startswith("r-"), HANGS_SECONDS)


def test_the_deploy_is_marked(board: Browser) -> None:
    board.wait(
        "a mark", lambda: "deploy" in board.text("#mark-list") or "Nothing was done" in board.text("#marks")
    )
    board.press("3")  # six hours: as far back as any lab of these tests
    board.wait("the deploy", lambda: "deploy deploys/all.py" in board.text("#mark-list"))
    board.press("1")


def test_a_stopped_host_turns_red_and_comes_back(lab: LabUnderTest, board: Browser) -> None:
    lab.griddle("lab", "stop", "app3")
    try:
        board.wait("red", lambda: "silent" in board.text("#host-app3 .state"), HANGS_SECONDS)
        assert "bad" in board.find("#host-app3").get_attribute("class")
        assert any("app3" in problem for problem in board.texts("#problems li"))
    finally:
        lab.griddle("lab", "start", "app3")
    board.wait("green", lambda: board.text("#host-app3 .state") == "● up", HANGS_SECONDS)


def test_a_link_keeps_the_view(board: Browser, address: str) -> None:
    board.press("2")
    board.find("#host-app1 button").click()
    link = board.driver.current_url
    board.open(link)
    board.wait("the view", lambda: board.find("#range-1h").is_selected())
    assert board.find("#host-app1 button").get_attribute("aria-pressed") == "true"


def test_nothing_but_questions_reaches_the_store(address: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("api/v1/admin/tsdb/delete_series?match[]=up", "api/v1/import/prometheus", "metrics"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            opener.open(address + path, timeout=5)
