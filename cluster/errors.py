"""The two ways in which an operator's command ends badly, and their exit codes."""


class UserError(Exception):
    """Something the operator can put right: one line that says what, where and what to do next."""

    exit_code = 2


class Failure(Exception):
    """Something that went wrong while running: a host, a download, a gate."""

    exit_code = 1
