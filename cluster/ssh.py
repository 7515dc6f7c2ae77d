"""How a host is reached by OpenSSH, and asked there."""

from __future__ import annotations

from cluster.model import Host

CONNECT_SECONDS = 5
# For scripts that ssh, systemd, keepalived or a person runs: it asks directly, whatever proxies a session has.
CURL = "curl --noproxy '*' -sS"


def options(of: Host) -> list[str]:
    """OpenSSH's options that say what the inventory says, with pyinfra's defaults; it never asks for a password.

    Names, ports, jump hosts and keys may also come from the user's ~/.ssh/config: pyinfra reads it, too.
    """
    data = of.data
    chosen = {"BatchMode": "yes", "ConnectTimeout": str(CONNECT_SECONDS), "LogLevel": "ERROR"}
    chosen["StrictHostKeyChecking"] = data.get("ssh_strict_host_key_checking") or "accept-new"
    if known_hosts := data.get("ssh_known_hosts_file"):
        chosen["UserKnownHostsFile"] = known_hosts
    if port := data.get("ssh_port"):
        chosen["Port"] = str(port)
    found = [item for name, value in chosen.items() for item in ("-o", f"{name}={value}")]
    if configuration := data.get("ssh_config_file"):
        found += ["-F", configuration]
    if key := data.get("ssh_key"):
        found += ["-i", key, "-o", "IdentitiesOnly=yes"]
    return found


def target(of: Host) -> str:
    """What ssh connects to: user@host, or the host where the inventory names no user."""
    user = of.data.get("ssh_user")
    name = of.data.get("ssh_hostname") or of.name
    return f"{user}@{name}" if user else name
