"""How a run treats what the operator's machine keeps: it is refused with one line where that does not fit the
hosts, and changes it only once hosts are changed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NoReturn

from gevent.lock import BoundedSemaphore
from pyinfra import state
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.state import BaseStateCallback, State

from cluster.errors import Failure, UserError
from cluster.progress import say


def refuse(line: str) -> NoReturn:
    """End the run with one line and exit code 2. For its first phase, in which nothing has been changed yet."""
    from pyinfra_cli.exceptions import CliError  # not above: the import makes the whole process gevent's

    class Refused(PyinfraError, CliError):
        """The one that pyinfra hands through from a deploy, and the one that it ends with as it is."""

        exit_code = UserError.exit_code

        def show(self, file: IO[Any] | None = None) -> None:
            say(f"griddle: {self.message}")

    raise Refused(line)


@contextmanager
def refusals() -> Iterator[None]:
    """What the operator can put right ends the run as `refuse` does."""
    try:
        yield
    except UserError as problem:
        refuse(str(problem))


def save_when_executed(save: Callable[[], None]) -> None:
    """Call `save` once, before the run's first operation changes anything; at once where that has been.

    So a dry run, or one that is not confirmed, saves nothing. Handlers that a deploy's top has added are called
    before: where a run takes the cluster's lock, it has it by then.
    """
    if state.is_executing:
        save()
    else:
        state.add_callback_handler(_Saver(save))


class _Saver(BaseStateCallback):
    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._saved = False
        self._once = BoundedSemaphore()  # hosts begin at the same time, and none may before it is saved

    def operation_host_start(self, state: State, host: PyinfraHost, op_hash: str) -> None:
        with self._once:
            if not self._saved:
                try:
                    self._save()
                except (Failure, UserError) as problem:
                    refuse(str(problem))
                self._saved = True
