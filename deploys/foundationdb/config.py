"""FoundationDB's files, rendered from the cluster: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.model import Cluster, Host
from cluster.pki import places
from cluster.pki.authority import Authority
from deploys.foundationdb.cluster_file import ClusterFile
from deploys.framework.render import render
from deploys.framework.tree import Entry, File, Link

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"

RELEASES = "/opt/foundationdb"
CURRENT = f"{RELEASES}/current"
# Prints the release whose tools the servers understand: `current`, but not always while a minor version changes.
RELEASE_SCRIPT = "/usr/local/lib/griddle/fdb-release"
DATA = "/var/lib/foundationdb"
LOGS = "/var/log/foundationdb"
CONF = "/etc/foundationdb/foundationdb.conf"
SEED = "/etc/foundationdb/seed.cluster"
CLUSTER_FILE = f"{DATA}/fdb.cluster"
CLIENT_DIRECTORY = "/etc/griddle/fdb"
CLIENT_CLUSTER_FILE = f"{CLIENT_DIRECTORY}/fdb.cluster"
TLS = {
    "CERTIFICATE": f"{places.FOUNDATIONDB}/host.crt",
    "KEY": f"{places.FOUNDATIONDB}/host.key",
    "CA": f"{places.FOUNDATIONDB}/ca.crt",
}
# What FoundationDB's tools find their certificates by. Only on hosts with TLS: they end where a file is missing.
TLS_ENVIRONMENT = "/etc/foundationdb/tls.env"
# How often a process looks for other certificates; 12 hours if nobody says so (flow/Knobs.cpp).
TLS_REFRESH_SECONDS = 5
UNIT = "foundationdb.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"

STATUS_SECONDS = 10  # how long fdbcli may take to answer

# Classes that configuration.rst documents and that a process of a triple cluster may sensibly have.
CLASSES = ("unset", "storage", "log", "transaction", "stateless")
REPLICAS = {"single": 1, "double": 2, "triple": 3}
# For surviving R - 1 failures: 2R - 1, each on a machine of its own (FoundationDB's administration.rst).
COORDINATORS = {name: 2 * replicas - 1 for name, replicas in REPLICAS.items()}
PROCEDURES = ("auto", "patch", "minor")  # of an upgrade; auto: by the versions


@dataclass(frozen=True)
class Process:
    """One fdbserver: its port is also its name in foundationdb.conf."""

    host: str
    address: str
    port: int
    process_class: str
    tls: bool

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def coordinator(self) -> str:
        """Its address as cluster files and fdbcli spell it."""
        return f"{self.endpoint}:tls" if self.tls else self.endpoint


def numbers(version: str) -> tuple[int, ...]:
    """A version as what it is ordered by."""
    return tuple(int(part) for part in version.split("."))


def release(version: str) -> str:
    """The directory that a version is unpacked in."""
    return f"{RELEASES}/{version}"


def processes(host: Host) -> list[Process]:
    """The fdbserver processes of one host, by its data."""
    first = host.data["fdb_port"]
    return [
        Process(host.name, host.address, first + number, process_class, host.data["fdb_tls"])
        for number, process_class in enumerate(host.data["fdb_process_classes"])
    ]


def coordinators(cluster: Cluster) -> tuple[str, ...]:
    """The first process of every FoundationDB host."""
    return tuple(processes(host)[0].coordinator for host in cluster.group("fdb"))


def settings(host: Host) -> dict[str, str]:
    """Parameters of every fdbserver of a host, as foundationdb.conf spells them ($ID is the port)."""
    data = host.data
    return {
        "cluster-file": CLUSTER_FILE,
        "seed-cluster-file": SEED,
        "public-address": f"{host.address}:$ID" + (":tls" if data["fdb_tls"] else ""),
        "listen-address": "public",
        "datadir": f"{DATA}/data/$ID",
        "logdir": LOGS,
        "logsize": data["fdb_log_size"],
        "maxlogssize": data["fdb_logs_size"],
        "trace-format": "json",
        "memory": data["fdb_memory"],
        "cache-memory": data["fdb_cache_memory"],
        "storage-memory": data["fdb_storage_memory"],
        # One machine, one zone: replicas and coordinators never share a host.
        "locality-machineid": host.name,
        "locality-zoneid": host.name,
        **(tls_settings() if data["fdb_tls"] else {}),
        **{f"knob-{name.lower()}": str(value) for name, value in sorted(data["fdb_knobs"].items())},
    }


def tls_settings() -> dict[str, str]:
    """The parameters that make an fdbserver speak TLS."""
    return {
        **{f"tls-{what.lower()}-file": path for what, path in TLS.items()},
        "knob-tls_cert_refresh_delay_seconds": str(TLS_REFRESH_SECONDS),
    }


def tls_files(host: Host, authority: Authority) -> dict[str, File]:
    """The host's certificate, for serving and for its tools; nothing where FoundationDB speaks plain text."""
    if not host.data["fdb_tls"]:
        return {}
    pair = authority.certificate(host.name, host.address)
    return {
        TLS["CA"]: File(authority.bundle()),
        TLS["CERTIFICATE"]: File(pair.certificate),
        TLS["KEY"]: File(pair.key, "640", "root", "foundationdb"),
        TLS_ENVIRONMENT: File("".join(f"FDB_TLS_{what}_FILE={path}\n" for what, path in TLS.items())),
    }


def certificates_read_command(host: Host) -> str:
    """A shell command: exit 0 when every process of the host serves the certificate that lies here, and has had
    the time to read the bundle beside it.
    """
    age = f"$(( $(date +%s) - $(stat -c %Z {TLS['CA']}) ))"
    serials = " && ".join(
        f'[ "$(openssl s_client -connect {process.endpoint} -cert {TLS["CERTIFICATE"]} -key {TLS["KEY"]} '
        '</dev/null 2>/dev/null | openssl x509 -noout -serial)" = "$wanted" ]'
        for process in processes(host)
    )
    return (
        f"wanted=$(openssl x509 -noout -serial -in {TLS['CERTIFICATE']}) && echo $wanted, {age} s old "
        f"&& [ {age} -gt {3 * TLS_REFRESH_SECONDS} ] && {serials}"
    )


def command_line(host: Host, process: Process) -> frozenset[str]:
    """The words with which fdbmonitor starts a process: the command, then --key=value (fdbmonitor.cpp)."""
    values = settings(host)
    if process.process_class != "unset":
        values["class"] = process.process_class
    words = {f"--{key}={value.replace('$ID', str(process.port))}" for key, value in values.items()}
    return frozenset(words | {f"{release(host.data['fdb_version'])}/sbin/fdbserver"})


def listening_command(host: Host) -> str:
    """A shell command: exit 0 when every process of the host accepts connections."""
    return " && ".join(
        f"timeout 1 bash -c '</dev/tcp/{process.address}/{process.port}'" for process in processes(host)
    )


def foundationdb_conf(host: Host) -> str:
    """foundationdb.conf, which fdbmonitor reads."""
    return render(
        TEMPLATES / "foundationdb.conf.j2",
        command=f"{release(host.data['fdb_version'])}/sbin/fdbserver",
        settings=settings(host),
        processes=processes(host),
    )


def server_files(host: Host, seed: ClusterFile) -> dict[str, Entry]:
    """Everything that configuration management owns on a FoundationDB host."""
    return {
        CURRENT: Link(host.data["fdb_version"]),
        **tool_files(),
        CONF: File(foundationdb_conf(host)),
        SEED: File(str(seed)),
        UNIT_FILE: File(
            render(
                TEMPLATES / "foundationdb.service.j2",
                current=CURRENT,
                conf=CONF,
                data=DATA,
                logs=LOGS,
                files=host.data["fdb_open_files"],
            )
        ),
    }


def server_directories() -> dict[str, tuple[str, str, str]]:
    return {
        "/etc/foundationdb": ("755", "root", "root"),
        # Servers and clients replace the cluster file here, so the directory is theirs.
        DATA: ("755", "foundationdb", "foundationdb"),
        f"{DATA}/data": ("700", "foundationdb", "foundationdb"),
        LOGS: ("755", "foundationdb", "foundationdb"),
    }


def client_files(host: Host, seed: ClusterFile) -> dict[str, Entry]:
    """The client's side, on hosts that run the store."""
    return {
        CURRENT: Link(host.data["fdb_version"]),
        **tool_files(),
        f"{CLIENT_DIRECTORY}/seed.cluster": File(str(seed)),
    }


def client_directories() -> dict[str, tuple[str, str, str]]:
    return {CLIENT_DIRECTORY: ("755", "griddle", "griddle")}


def wanted_processes(cluster: Cluster) -> Mapping[str, frozenset[str]]:
    """{address:port: command line} of every process that the inventory asks for."""
    return {
        process.endpoint: command_line(host, process)
        for host in cluster.group("fdb")
        for process in processes(host)
    }


def fdbcli(
    commands: str, cluster_file: str = CLUSTER_FILE, seconds: int = STATUS_SECONDS, version: str = ""
) -> str:
    """A shell command: fdbcli runs `commands` (separated by ;) as the user that owns the cluster file.

    :param version: which fdbcli; empty: the one that the servers understand
    """
    directory = release(version) if version else tools(cluster_file)
    return as_foundationdb(
        f"timeout {seconds + 5} {directory}/bin/fdbcli -C {cluster_file} "
        f"--no-status --timeout {seconds} --exec '{commands}'"
    )


def tools(cluster_file: str = CLUSTER_FILE) -> str:
    """For a shell: the directory of the release whose tools the servers understand."""
    return f"$({RELEASE_SCRIPT} {cluster_file} 2>/dev/null || echo {CURRENT})"


def tool_files() -> dict[str, File]:
    """What every host with one of FoundationDB's tools needs beside them."""
    return {RELEASE_SCRIPT: File((HERE / "files" / "fdb-release").read_text(), "755")}


def as_foundationdb(command: str) -> str:
    """A shell command: one of FoundationDB's tools, as its user and with its certificates."""
    return f"runuser -u foundationdb -- env $(cat {TLS_ENVIRONMENT} 2>/dev/null) {command}"
