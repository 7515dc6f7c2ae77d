"""What all tests share: `--long`, and which of them run beside each other.

`--long` adds the tests that are marked `long`, the proofs which take minutes each. A run of everything has two
processes (ops/testing.py): one for the lab, one for the rest.
"""

from pathlib import Path

import pytest

LAB = Path(__file__).parent / "lab"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the long proofs (tests marked `long`)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    for item in items:
        item.add_marker(pytest.mark.xdist_group("lab" if LAB in item.path.parents else "rest"))
