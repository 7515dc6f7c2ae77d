"""What all tests share: `--long`, and which of them run beside each other.

`--long` adds the tests that are marked `long`, the proofs which take minutes each. A run of everything has two
processes (ops/testing.py): one for the lab, one for the rest.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the long proofs (tests marked `long`)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


class LabBesideTheRest(LoadScopeScheduling):
    """All lab tests in one process, because they share labs; all others in the other."""

    def _split_scope(self, nodeid: str) -> str:
        return "lab" if nodeid.startswith("tests/lab/") else "rest"


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LabBesideTheRest:
    return LabBesideTheRest(config, log)
