"""Marks of a pyinfra run: see `cluster.marks`."""

from __future__ import annotations

import os
import sys

import click
from pyinfra import state
from pyinfra.api.state import BaseStateCallback, State

from cluster import marks
from cluster.model import cluster


def marked(kind: str, title: str | None = None) -> None:
    """This run is marked from its first operation to its end; a dry run is not. Deploys call it at their top.

    :param kind: see `cluster.marks.KINDS`
    :param title: by default the deploy's file, and the component where only one is applied
    """
    if not any(isinstance(handler, _Marker) for handler in state.callback_handlers):  # once, not per host
        state.add_callback_handler(_Marker(kind, title or run_title()))


def run_title() -> str:
    """What was called: the deploy's file, and the component or hosts that it is limited to."""
    files = [word for word in sys.argv[1:] if word.endswith(".py") and not word.startswith("inventory/")]
    components = [word for word in sys.argv if word.startswith("component=")]
    limits = [f"--limit {limit}" for word, limit in zip(sys.argv, sys.argv[1:], strict=False) if word == "--limit"]
    return " ".join([os.path.relpath(files[-1]) if files else "pyinfra", *components, *limits])


class _Marker(BaseStateCallback):
    """Opens the mark with the first operation; click closes it with the run, and knows how that ended."""

    def __init__(self, kind: str, title: str) -> None:
        self._kind, self._title = kind, title
        self._begun = False
        self._details: dict[str, str] = {}

    def operation_start(self, state: State, op_hash: str) -> None:
        if not self._begun and (run := click.get_current_context(silent=True)):
            self._details = run.with_resource(marks.span(cluster(), self._kind, self._title))
        self._begun = True
        self._details["at"] = next(iter(state.get_op_meta(op_hash).names))

    def operation_end(self, state: State, op_hash: str) -> None:
        del self._details["at"]
