"""ssh to a cluster's host, as the inventory says."""

from __future__ import annotations

from deploys.model import Host


def ssh_command(host: Host, connect_seconds: int = 2) -> list[str]:
    """`ssh` as the deploy user, without questions; the command is to follow.

    The inventory's ``ssh_…`` data go before the operator's own ssh settings.
    """
    data = host.data
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(connect_seconds),
        "LogLevel": "ERROR",
        "Port": data.get("ssh_port"),
        "UserKnownHostsFile": data.get("ssh_known_hosts_file"),
        "StrictHostKeyChecking": data.get("ssh_strict_host_key_checking"),
        "IdentityFile": data.get("ssh_key"),
        "IdentitiesOnly": "yes" if data.get("ssh_key") else None,
    }
    words = [word for name, value in options.items() if value for word in ("-o", f"{name}={value}")]
    return ["ssh", *words, f"{data['ssh_user']}@{data.get('ssh_hostname') or host.name}"]
