"""pyinfra's settings for every run in this repository."""

# Without this a failed or unreachable host drops out under `-y` and the others go on.
FAIL_PERCENT = 0
# The deploys connect as the deploy user (NOPASSWD sudo) and act as root.
SUDO = True
CONNECT_TIMEOUT = 10
REQUIRE_PYINFRA_VERSION = "~=3.10"
