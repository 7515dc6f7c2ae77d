"""What a lab keeps, and who may change it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.errors import Failure
from ops.lab import machine, state
from ops.lab.plan import lab_plan
from ops.lab.state import Lab, LabFiles

LAB = Lab(store="fdb", candidate=3, image="0123456789abcdef", ip_forward_was="0")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert state.read(tmp_path) is None
    assert state.plan(tmp_path) is None
    state.write(tmp_path, LAB)
    assert state.read(tmp_path) == LAB
    assert state.plan(tmp_path) == lab_plan(tmp_path, with_fdb=True, candidate=3)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"store": "fdb"}'])
def test_a_file_that_is_not_a_lab_says_what_to_do(tmp_path: Path, text: str) -> None:
    state.write_atomically(LabFiles(tmp_path).description, text)
    with pytest.raises(Failure, match="griddle down"):
        state.read(tmp_path)


def test_one_at_a_time_and_the_other_is_told_who(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path, "up"),
        pytest.raises(Failure, match=rf"`griddle up` \(process {os.getpid()}\)"),
        state.locked(tmp_path, "down"),
    ):
        pass
    with state.locked(tmp_path, "down"):
        pass


def test_nothing_runs_and_nothing_is_mounted_in_a_checkout_without_a_lab(tmp_path: Path) -> None:
    assert machine.running(LabFiles(tmp_path)) == {}
    assert machine.mounts(tmp_path) == []
