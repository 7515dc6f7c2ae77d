"""The board in a real browser, on a real metrics store with a made-up past."""

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from deploys.metrics import page
from services.engines import etcd_space
from tests import browser as browsers
from tests.browser import PHONE, Browser
from tests.unit import board as boards
from tests.unit.board import LocalBoard, past, sample
from tests.unit.clusters import cluster

pytestmark = pytest.mark.skipif(boards.missing() is not None, reason=str(boards.missing()))

CLUSTER = cluster(cluster_name="test")
NOW = BROKEN = 0.0  # since BROKEN app2 and fdb4 are silent, and reads are slow
HOLE = (0.0, 0.0)
UNKNOWN = "\N{EN DASH}"
NASTY = "<img src=x onerror=alert(1)>"


def begin() -> None:
    """The made-up past ends when the first of these tests runs: that may be long after this file was read."""
    global NOW, BROKEN, HOLE
    NOW = time.time()
    BROKEN, HOLE = NOW - 120, (NOW - 600, NOW - 540)


def marks() -> Iterator[str]:
    deploy = {"kind": "deploy", "title": "deploys/all.py", "id": "a1", "by": "anna"}
    yield sample("griddle_mark", 0, NOW - 400, phase="start", **deploy)
    yield sample("griddle_mark", 50, NOW - 350, phase="end", outcome="failed", reason="app1: no space", **deploy)
    yield sample("griddle_mark", 0, NOW - 200, kind="flag", title=NASTY, id="a2", phase="point", by="anna")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBoard]:
    begin()
    made = LocalBoard(tmp_path_factory.mktemp("board"), CLUSTER)
    try:
        made.start()
        made.put(past(CLUSTER, NOW - 1800, BROKEN, hole=HOLE))
        # Time goes on while the tests run.
        made.put(past(CLUSTER, BROKEN + 1, NOW + 600, down=("app2", "fdb4"), slow_since=BROKEN))
        made.put(marks())
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    if reason := browsers.missing():
        pytest.skip(reason)
    with browsers.browser() as opened:
        yield opened


@pytest.fixture
def shown(board: LocalBoard, window: Browser) -> Iterator[Browser]:
    """The board, with numbers on it. At the end, nothing may have been said on the console."""
    show(window, board)
    yield window
    assert window.console() == []


def show(window: Browser, board: LocalBoard, view: str = "") -> None:
    window.size()
    window.open(f"{board.address}/{view}")
    window.wait(
        "numbers", lambda: "promise" in window.text("#headline") and UNKNOWN not in window.text("#tiles .big")
    )


def number(text: str) -> float:
    return float(re.search(r"[\d,.]+", text).group().replace(",", ""))


# --- nginx


def ask(board: LocalBoard, path: str, method: str = "GET") -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(board.address + path, method=method), timeout=10
        ) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200), ("HEAD", "/", 200), ("GET", "/js/main.js", 200), ("GET", "/dygraph.min.js", 200),
        ("GET", "/cluster.json", 200), ("GET", "/api/v1/query?query=1", 200),
        ("GET", "/api/v1/query?query=1&timeout=never", 200),
        ("GET", "/api/v1/query_range?query=1&start=-5m&step=60", 200), ("GET", "/api/v1/query?query=(", 422),
        ("POST", "/api/v1/query?query=1", 405), ("POST", "/", 405), ("DELETE", "/api/v1/query", 405),
        ("GET", "/api/v1/admin/tsdb/delete_series?match[]=up", 404), ("GET", "/api/v1/export?match[]=up", 404),
        ("GET", "/api/v1/import/prometheus", 404), ("GET", "/metrics", 404), ("GET", "/flags", 404),
        ("GET", "/internal/force_flush", 404), ("GET", "/vmui/", 404), ("GET", "/api/v1/query/../export", 404),
        ("GET", "/api/v1/query%2F..%2Fexport", 404), ("GET", "/js/", 404), ("GET", "/../nginx.conf", 400),
    ],
)  # fmt: skip
def test_only_the_page_and_two_questions_are_served_with_strict_headers(board, method, path, status):
    seen, headers = ask(board, path, method)
    assert seen == status
    if status != 400:  # nginx answers that before it knows whose request it is
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_the_page_loads_nothing_from_elsewhere_and_is_light(shown: Browser, board: LocalBoard) -> None:
    loaded = shown.run("performance.getEntriesByType('resource').map((r) => [r.name, r.encodedBodySize])")
    assert all(name.startswith(board.address) for name, _ in loaded)
    files = {name: size for name, size in loaded if "/api/" not in name}
    assert 40_000 < sum(files.values()) < 100_000, files


def test_the_page_is_told_who_should_be_there() -> None:
    told = page.told(CLUSTER)
    assert {host["name"] for host in told["hosts"]} == set(CLUSTER.hosts)
    assert told["promise"] == {"within_ms": 25, "share": 0.99}


def test_installed_files_hold_the_page_and_what_it_needs() -> None:
    files = page.files(CLUSTER)
    linked = re.findall(r'(?:src|href)="([\w/.]+)"', files[f"{page.ROOT}/index.html"].content)
    for name in set(linked) - {"dygraph.min.js"}:
        assert f"{page.ROOT}/{name}" in files
    for path in Path(page.PAGE, "js").iterdir():
        for name in re.findall(r'from "\./(.+?)"', path.read_text()):
            assert f"{page.ROOT}/js/{name}" in files


# --- what it says


def test_the_top_says_what_the_store_says(shown: Browser, board: LocalBoard) -> None:
    share, p99, reads, shed, errors = (number(text) for text in shown.texts("#tiles .big"))
    asked = "(sum(rate(griddle_read_ms_count[1m])) + sum(rate(griddle_read_shed[1m])))"
    assert share == pytest.approx(
        100 * board.value(f'sum(rate(griddle_read_ms_bucket{{le="25"}}[1m])) / {asked}'), abs=0.5
    )
    assert p99 == pytest.approx(
        board.value("histogram_quantile(0.99, sum by (le) (rate(griddle_read_ms_bucket[1m])))"), rel=0.1
    )
    assert reads == pytest.approx(board.value("sum(rate(griddle_read_ms_count[1m]))"), rel=0.02)
    assert shed == pytest.approx(100 * board.value(f"sum(rate(griddle_read_shed[1m])) / {asked}"), abs=0.02)
    assert errors == 0
    assert shown.text("#headline").endswith("The promise is broken: reads within 25 ms")
    assert "Of the last hour only" in shown.text("#hour")


def test_what_is_wrong_is_listed_and_red(shown: Browser) -> None:
    problems = shown.texts("#problems li")
    assert any("app2: silent" in problem for problem in problems)
    assert any("FoundationDB: 2 of" in problem for problem in problems)
    row = shown.find("#host-app2")
    assert "bad" in row.get_attribute("class") and "silent" in row.text and "✕" in row.text
    assert shown.text("#host-app1 .state") == "● up"
    assert [light for light in shown.texts("#gates li") if "✕" in light][1:] == [
        "✕ coordinators",
        "✕ full replication",
    ]
    assert shown.run("getComputedStyle(document.querySelector('#host-app2 .light')).color") == "rgb(184, 38, 11)"


def test_what_was_done_is_listed_as_text(shown: Browser) -> None:
    flag, deploy = shown.texts("#mark-list li")
    assert NASTY in flag
    assert "deploys/all.py took 50 s, by anna" in deploy and "failed" in deploy and "no space" in deploy


def test_before_it_broke_the_promise_held(window: Browser, board: LocalBoard) -> None:
    show(window, board, f"#from={NOW - 500:.0f}&to={BROKEN - 60:.0f}")
    assert window.text("#headline").endswith("The promise holds: reads within 25 ms")
    assert window.texts("#problems li") == []
    assert window.text("#host-app2 .state") == "● up"
    assert window.text("#live") == "Back to now"


def test_a_hole_is_shown_as_one(shown: Browser) -> None:
    rows = [[0, 1], [1, None], [2, None], [3, 0], [4, None]]
    assert shown.run("import('/js/chart.js').then((chart) => chart.gaps(arguments[0]))", rows) == [[1, 2], [4, 4]]


def test_nothing_known_is_no_zero(board: LocalBoard, window: Browser) -> None:
    window.open(f"{board.address}/#from={NOW - 90000:.0f}&to={NOW - 86000:.0f}")
    window.wait("an answer", lambda: "No data about reads" in window.text("#headline"))
    assert set(window.texts("#tiles .big")) == {UNKNOWN}
    assert {window.text(f"#host-{name} .number") for name in ("app1", "fdb1")} == {UNKNOWN}
    window.wait("a word", lambda: window.text("#latency .chart-state") == "no data in this time")


# --- how it is used


def test_a_link_keeps_the_view(shown: Browser, board: LocalBoard) -> None:
    shown.find("label[for=range-6h]").click()
    shown.find("#host-app1 button").click()
    link = shown.driver.current_url
    assert link == f"{board.address}/#range=6h&host=app1"
    shown.driver.back()
    shown.wait("one step back", lambda: shown.find("#host-app1 button").get_attribute("aria-pressed") == "false")
    show(shown, board, "#" + link.partition("#")[2])
    assert shown.find("#range-6h").is_selected()
    assert shown.find("#host-app1 button").get_attribute("aria-pressed") == "true"
    shown.press("p")
    fixed = shown.driver.current_url
    assert "from=" in fixed and shown.text("#live") == "Back to now"
    fresh = shown.text("#fresh")
    show(shown, board, "#" + fixed.partition("#")[2])
    assert shown.text("#fresh") == fresh


def test_all_of_it_works_by_keyboard(shown: Browser) -> None:
    def focus() -> str:
        return shown.run("document.activeElement.id || document.activeElement.textContent.trim()")

    reached = []
    for _ in range(30):
        shown.press(Keys.TAB)
        reached.append(focus())
    assert reached[:5] == ["To the promise", "range-15m", "live", "theme", "help"]
    assert reached[5].endswith("Promise") and "proxy1" in reached and "app2" in reached

    shown.press("j")
    assert shown.wait("the next section", lambda: focus() == "h-hosts")
    shown.press("2")
    assert shown.find("#range-1h").is_selected()
    shown.press("?")
    assert shown.find("#help-text").is_displayed()
    shown.press(Keys.ESCAPE)
    assert not shown.find("#help-text").is_displayed()

    shown.run("document.querySelector('#cpu .plot').focus()")
    shown.wait("the chart", lambda: "app1" in shown.text("#cpu .legend"))
    shown.press(Keys.END)
    assert re.match(r"\d\d:\d\d:\d\d: .*app1 \d", shown.find("#spoken").get_attribute("textContent"))
    assert "app1" in shown.find("#cpu .plot").get_attribute("aria-label")


def test_drawing_over_a_chart_looks_closer(shown: Browser) -> None:
    plot = shown.find("#latency .plot")
    shown.wait("the chart", lambda: "p99" in shown.text("#latency .legend"))
    hand = ActionChains(shown.driver).move_to_element_with_offset(plot, -60, 20)
    hand.click_and_hold().move_by_offset(100, 0).release().perform()
    begin, end = (int(number) for number in re.findall(r"(?:from|to)=(\d+)", shown.driver.current_url))
    assert 100 < end - begin < 600
    shown.press("p")
    assert shown.driver.current_url.endswith("#range=15m")


def test_light_and_dark(shown: Browser) -> None:
    def page_colour() -> str:
        return shown.run("getComputedStyle(document.body).backgroundColor")

    light = page_colour()
    shown.scheme("dark")
    shown.wait("the system's dark", lambda: page_colour() != light)
    dark = page_colour()
    shown.press("t")  # light, whatever the system says
    assert page_colour() == light
    shown.press("t")
    shown.scheme("light")
    assert page_colour() == dark
    shown.press("t")
    assert page_colour() == light


def test_it_fits_a_phone(shown: Browser) -> None:
    shown.size(*PHONE)
    shown.wait("the narrow page", lambda: shown.run("innerWidth") == PHONE[0])
    assert shown.run("document.documentElement.scrollWidth") == PHONE[0]
    parts = "[...document.querySelectorAll('.bar button, .tile')]"
    assert shown.run(f"{parts}.every((part) => part.getBoundingClientRect().right <= innerWidth)")


def test_a_store_that_is_away_is_said_and_found_again(board: LocalBoard, window: Browser) -> None:
    show(window, board)
    board.stop("store")
    try:
        window.wait("the banner", lambda: "does not answer: it answers 502" in window.text("#banner"))
        assert window.text("#host-app1 .state") == "○ no data"
        assert set(window.texts("#tiles .big")) == {UNKNOWN}
        assert "✕" not in window.text("nav")
    finally:
        board.start("store")
    window.wait("numbers again", lambda: not window.find("#banner").is_displayed())
    window.wait("lights again", lambda: window.text("#host-app1 .state") == "● up")
    assert all("502" in line for line in window.console())  # the browser's own words


def test_a_host_that_lives_without_its_processes_is_no_good_host(shown: Browser) -> None:
    running = {"store": 2, "front": 2, "feed": 1, "etcd": 1}
    app, seen = {"groups": ["apps", "etcd"], "reports": True}, {"heard": 100, "disk_used": 50}
    cases = [
        [seen | {"runs": running}, "up"], [seen | {"runs": running | {"store": 0}}, "no store worker"],
        [seen | {"runs": running | {"etcd": 0}}, "etcd is down"], [{"runs": running}, "never heard"],
        [seen | {"runs": running, "disk_used": 90}, "disk fills"],
        [seen | {"heard": 40, "runs": {}}, "silent 61 s"],
    ]  # fmt: skip
    judged = (
        "import('/js/health.js').then((h) => arguments[1].map(([seen]) => h.host(arguments[0], seen, 101).word))"
    )
    assert shown.run(judged, app, cases) == [word for _, word in cases]


def test_an_etcd_without_room_is_not_healthy(shown: Browser) -> None:
    def members(used: float | None, up: int = 3) -> list[dict]:
        return [{"up": number < up, "leads": number == 0, "used": used} for number in range(3)]

    cases = [
        [members(0.5), [], "ok", "healthy"], [members(None), [], "ok", "healthy"],
        [members(0.81), [], "warn", "81.00 % of the quota used"],
        [members(0.951), [], "bad", "95.10 % of the quota used: the store takes no more writes"],
        [members(0.5), ["NOSPACE on app1"], "bad", "alarm NOSPACE on app1: no key can be put"],
        [members(0.81, 2), [], "warn", "2 of 3 up"],
        [members(0.5, 1), ["NOSPACE on app1"], "bad", "majority lost: 1 of 3 up"],
    ]  # fmt: skip
    judged = (
        "import('/js/health.js').then((h) => arguments[0].map(([members, alarms]) => h.quorum(members, alarms)))"
    )
    assert shown.run(judged, cases) == [{"state": state, "word": word} for *_, state, word in cases]
    assert shown.run("import('/js/health.js').then((h) => h.QUOTA_FULL)") == etcd_space.FULL_SHARE


def test_an_alarm_of_etcd_is_at_the_top(board: LocalBoard, window: Browser) -> None:
    now = int(time.time())
    board.put(sample("griddle_etcd_alarm", 1, at, host="app1", alarm="NOSPACE") for at in range(now, now + 60, 5))
    show(window, board)
    said = "✕ alarm NOSPACE on app1: no key can be put"
    window.wait("the alarm", lambda: window.text("#members .sum") == said)
    assert "✕ etcd: alarm NOSPACE on app1: no key can be put" in window.texts("#problems li")
    assert "20 MiB, 0.97 % of the quota" in window.text("#members")


def test_nobody_reading_is_neither_kept_nor_broken(shown: Browser) -> None:
    cases = [
        [{"share": None, "reads": 0}, "no reads"], [{"share": None, "reads": None}, "no data"],
        [{"share": 0.99, "reads": 5}, "kept"], [{"share": 0, "reads": None}, "broken"],
    ]  # fmt: skip
    judged = (
        "import('/js/health.js').then((h) => arguments[0].map(([seen]) => h.promise(seen, {share: 0.99}).word))"
    )
    assert shown.run(judged, cases) == [word for _, word in cases]


def test_numbers_for_people(shown: Browser) -> None:
    cases = [
        ["share", 0.99999, "99.99 %"], ["share", 1, "100 %"], ["/s", 1180, "1,180/s"], ["/s", 51234, "51.2 k/s"],
        ["ms", 12.34, "12.3 ms"], ["s", 0.0042, "4.2 ms"], ["B", 21e6, "20 MiB"], ["", 0, "0"],
        ["%", None, UNKNOWN],
    ]  # fmt: skip
    said = "import('/js/format.js').then((f) => arguments[0].map(([unit, value]) => f.quantity(value, unit)))"
    assert shown.run(said, cases) == [expected for *_, expected in cases]
