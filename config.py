"""pyinfra's settings for every run in this repository."""

from pyinfra import config

from deploys import shell

# Without this a failed or unreachable host drops out under `-y` and the others go on.
config.FAIL_PERCENT = 0
# The deploys connect as the deploy user (NOPASSWD sudo) and act as root.
config.SUDO = True
# Not the umask, locale, PATH and proxies of whoever's session it is.
config.SHELL = shell.EXECUTABLE
config.CONNECT_TIMEOUT = 10
config.REQUIRE_PYINFRA_VERSION = "~=3.10"
