"""pyinfra's settings for every run in this repository."""

import inspect
import signal
import sys
from functools import partial

from gevent.hub import Hub
from pyinfra import config
from pyinfra.api import util
from pyinfra.api.exceptions import PyinfraError

from cluster.check import refuse_bad_words
from cluster.errors import Failure, UserError
from deploys.framework import shell
from deploys.framework.preview import say_with_pyinfra
from deploys.framework.remote import tend_connections

# Without this a failed or unreachable host drops out under `-y` and the others go on.
config.FAIL_PERCENT = 0
# The deploys connect as the deploy user (NOPASSWD sudo) and act as root.
config.SUDO = True
# Not the umask, locale, PATH and proxies of whoever's session it is.
config.SHELL = shell.EXECUTABLE
config.CONNECT_TIMEOUT = 10
config.REQUIRE_PYINFRA_VERSION = "~=3.10"

# pyinfra orders operations by the lines that call them. It asks for the source of all callers as well, which
# nobody looks at, and Python searches every module for that: a fifth of its CPU time.
util.stack = partial(inspect.stack, context=0)
util.getframeinfo = partial(inspect.getframeinfo, context=0)

# What ends a run on purpose says so in a line; gevent would print a traceback of it as well.
Hub.NOT_ERROR = (*Hub.NOT_ERROR, PyinfraError, Failure, UserError)


# pyinfra's own handler ends an interrupted run with 0, as if all had been done.
def _interrupted(*_):
    print("griddle: interrupted; the same command goes on from here", file=sys.stderr)
    sys.exit(130)


signal.signal(signal.SIGINT, _interrupted)

refuse_bad_words()
tend_connections()
say_with_pyinfra()
