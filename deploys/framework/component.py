"""Applies a component to the hosts of its groups."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from pyinfra import host, state

from cluster import model
from deploys.framework import preview, summary


def component(apply: ModuleType | Callable[[], None], *groups: str) -> None:
    """Apply a component to this host if it is in one of the groups.

    pyinfra orders operations by the lines that call them, so every component needs a line of its own in the
    calling file; a loop over a table would give all of them the same line and interleave them.

    ``--data component=NAME`` applies only the component of that name (its package in deploys/), or those of a list
    parted by commas.

    :param apply: a component's deploy module (install, configure, activate), or one function of it
    :param groups: inventory groups; none: every host
    """
    summary.watch(state)
    preview.watch(state)
    module = apply.__module__ if callable(apply) else apply.__name__
    only = host.data.get("component")
    if only and module.split(".")[1] not in only.split(","):
        return
    if groups and not model.this_host().groups & set(groups):
        return
    if callable(apply):
        apply()
        return
    apply.install()
    apply.configure()
    apply.activate()
