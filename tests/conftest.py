"""What all tests share: `--long`, `--no-skip`, and which of them run beside each other.

`--long` adds the tests that are marked `long`, the proofs which take minutes each, and has tests that sample take
every point. `--no-skip` is for a machine that should run all of them. A run of everything has two processes
(ops/testing.py): one for the lab, one for the rest.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

# Of tests/lab, those that share no lab: they take their turn where unit tests are done.
APART = ("test_hosts.py", "test_keepalived.py", "test_losses.py", "test_network.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the long proofs (tests marked `long`)")
    parser.addoption("--no-skip", action="store_true", help="fail where a test was skipped")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
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


class LabBesideTheRest(LoadScopeScheduling):
    """All tests of the shared lab in one process; all others in the other, those that boot hosts at its end."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if not path.startswith("tests/lab/"):
            return "rest"
        return "apart" if path.removeprefix("tests/lab/") in APART else "lab"


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LabBesideTheRest:
    return LabBesideTheRest(config, log)
