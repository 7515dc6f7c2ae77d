"""When `up` deploys, and when it believes that the cluster serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import up

GOOD = {"X-Lane": "direct", "X-Release": "r-0123"}


@pytest.mark.parametrize(
    ("code", "headers", "words"),
    [
        (503, GOOD, "answers 503"),
        (200, {**GOOD, "X-Lane": "wsgi"}, "by lane 'wsgi'"),
        (200, {"X-Release": "r-0123"}, "by lane None"),
        (200, {"X-Lane": "direct"}, "without X-Release"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(code: int, headers: dict[str, str], words: str) -> None:
    assert words in (up.answer_problem("http://10.0.0.1/", "direct", code, headers) or "")


def test_a_good_answer_has_no_problem() -> None:
    assert up.answer_problem("http://10.0.0.1/", "direct", 200, GOOD) is None


def test_a_change_in_what_is_deployed_is_another_hash(tmp_path: Path) -> None:
    (tmp_path / "deploys").mkdir()
    (tmp_path / "config.py").write_text("FAIL_PERCENT = 0\n")
    before = up.inputs_hash(tmp_path, "etcd")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "architecture.md").write_text("words")
    (tmp_path / "deploys" / "all.pyc").write_text("made by Python")
    assert up.inputs_hash(tmp_path, "etcd") == before
    assert up.inputs_hash(tmp_path, "fdb") != before
    (tmp_path / "deploys" / "all.py").write_text("")
    assert up.inputs_hash(tmp_path, "etcd") != before
