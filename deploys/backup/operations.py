"""The backup's own operation: one continuous backup runs, to the URL that the data name."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FactBase, StringCommand, operation

from deploys.backup import config, status
from deploys.framework import preview
from deploys.framework.changes import Change
from deploys.framework.operations import checked


class BackupStatus(FactBase[status.Backup]):
    """The continuous backup as the database knows it."""

    default = status.Backup

    def command(self) -> str:
        return f"{config.status_command()} 2>/dev/null; true"

    def process(self, output: list[str]) -> status.Backup:
        return status.parse("\n".join(output))


@operation()
def backed_up(data: Mapping[str, Any]) -> Generator[StringCommand]:
    """A continuous backup runs.

    + data: the host's data; a running backup to another URL is ended, and stays where it is
    """
    seen = host.get_fact(BackupStatus)
    if seen.running and status.goes_to(seen.url, data["fdb_backup_url"]):
        host.noop(f"it runs, to {seen.url}")
        return
    ended = ("the one that runs, to another URL, is ended",) if seen.running else ()
    preview.note(Change("command", "begin", "a continuous backup", ended))
    begin = config.begin_command(data, instead=seen.running)
    yield from checked(begin, "begin a continuous backup", timeout=300)
    if seen.running:
        said = f"up to version {seen.restorable} and {status.utc(seen.at)}" if seen.restorable else "at no version"
        logger.info(f"{host.print_prefix}the backup in {seen.url} has ended; it stays restorable, {said}")
