"""What all tests share: `--long`, `--no-skip`, and which of them run beside each other.

`--long` adds the tests that are marked `long`, the proofs which take minutes each, and has tests that sample take
every point. `--no-skip` is for a machine that should run all of them. A run of everything has two processes
(ops/testing.py): each begins with a lab, and then does what is left.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

# The labs that tests share, by engine: of `auto` it is the one that this machine has packages for. The first of a
# lab's files finds it bare, each other takes it as it is.
LABS = {
    "auto": (
        "test_deploy.py", "test_backup_store.py", "test_fdb_minor.py", "test_fdb_upgrade.py", "test_fdb_world.py",
        "test_foundationdb.py", "test_foundationdb_members.py", "test_status.py",
    ),
    "etcd": (
        "test_conduct.py", "test_etcd.py", "test_etcd_alarm.py", "test_firewall.py", "test_metrics.py",
        "test_operators.py", "test_seeing.py", "test_seeing_board.py",
    ),
}  # fmt: skip
_ENGINE = {f"tests/lab/{name}": engine for engine, names in LABS.items() for name in names}
_ORDER = list(_ENGINE)


def lab_of(nodeid: str) -> str | None:
    """The engine of the lab that a test shares with others; None where it shares none."""
    return _ENGINE.get(nodeid.partition("::")[0])


def turn(item: pytest.Item) -> tuple[int, bool]:
    """The labs take longest: each has a process from the beginning, and shorter ones fill in at the end."""
    path = item.nodeid.partition("::")[0]
    return _ORDER.index(path) if path in _ENGINE else len(_ORDER), not path.startswith("tests/lab/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the long proofs (tests marked `long`)")
    parser.addoption("--no-skip", action="store_true", help="fail where a test was skipped")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=turn)
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def skipped(config: pytest.Config) -> list[pytest.TestReport]:
    """Reports of the tests that were skipped; none in xdist's workers, which do not report."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("skipped", []) if reporter else []


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--no-skip") and skipped(session.config) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--no-skip") and (reports := skipped(config)):
        terminalreporter.section("--no-skip: these were skipped, so this run fails", red=True)
        for report in reports:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            terminalreporter.write_line(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")


class LabsBesideTheRest(LoadScopeScheduling):
    """A process has the tests of one shared lab, or of one file: what comes next is for whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return lab_of(nodeid) or nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LabsBesideTheRest:
    return LabsBesideTheRest(config, log)
