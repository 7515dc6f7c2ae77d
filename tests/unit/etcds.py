"""Several real members of etcd with TLS on loopback, each with a root directory that looks like its host's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cluster import model
from cluster.pki import places
from cluster.pki.authority import Authority
from deploys.etcd import config, look
from deploys.etcd.look import Found
from ops.stores import Server, free_port, wait_until


class Etcds:
    """Hosts a, b, c, ...: `hosts` of them in group etcd, none started."""

    def __init__(self, directory: Path, names: str = "abc") -> None:
        self.directory = directory
        self.authority = Authority("test", directory / "clusters")
        self.authority.make()
        data = {"cluster_name": "test", "etcd_heartbeat_ms": 50, "etcd_election_ms": 500}
        entries = []
        for number, name in enumerate(names):
            ports = {"etcd_client_port": free_port(), "etcd_peer_port": free_port()}
            entries.append((name, {"address": f"127.0.0.{11 + number}", **ports}))
        self.cluster = model.from_file(Path("test.py"), {"etcd": entries}, data)
        self.servers: dict[str, Server] = {}

    def root(self, name: str) -> Path:
        return self.directory / name

    def install(self, name: str, **first: str) -> None:
        """The host's files; `first`: lines of the configuration that a first start needs."""
        host, root = self.cluster.hosts[name], self.root(name)
        for path, file in config.member_files(self.cluster, host, self.authority).items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            text = file.data.decode()
            if path == config.CONF:
                text = text.replace(places.ETCD, f"{root}{places.ETCD}")
                text = text.replace(config.DATA, f"{root}{config.DATA}")
                lines = [line for line in text.splitlines() if line.partition(":")[0] not in first]
                text = "\n".join([*lines, *(f"{key}: {value}" for key, value in first.items())]) + "\n"
            target.write_text(text)
        (root / config.DATA.lstrip("/") / "test").mkdir(parents=True, exist_ok=True, mode=0o700)

    def peers(self, *names: str) -> str:
        hosts = [self.cluster.hosts[name] for name in names]
        return ",".join(f"{host.name}=https://{host.address}:{host.data['etcd_peer_port']}" for host in hosts)

    def start(self, name: str) -> None:
        if name not in self.servers:
            command = ["etcd", "--config-file", f"{self.root(name)}{config.CONF}"]
            port = self.cluster.hosts[name].data["etcd_client_port"]
            self.servers[name] = Server(command, self.root(name) / "log", port)
        self.servers[name].start()

    def bootstrap(self, *names: str) -> None:
        """A new cluster of these hosts."""
        first = {
            "initial-cluster": self.peers(*names),
            "initial-cluster-token": "griddle-test",
            "initial-cluster-state": "new",
        }
        for name in names:
            self.install(name, **first)
        for name in names:
            self.start(name)
        for name in names:
            self.await_leader(name)

    def await_leader(self, name: str) -> None:
        wait_until(f"{name} knows a leader", lambda: (status := self.look(name).status) and status.leader)

    def look(self, name: str) -> Found:
        done = subprocess.run(["sh", "-c", look.command(str(self.root(name)))], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return look.parse(done.stdout.splitlines())

    def ctl(self, name: str, *arguments: str, check: bool = True) -> str:
        """etcdctl as this member."""
        pki = f"{self.root(name)}{places.ETCD}"
        port = self.cluster.hosts[name].data["etcd_client_port"]
        options = ["--cacert", f"{pki}/ca.crt", "--cert", f"{pki}/member.crt", "--key", f"{pki}/member.key"]
        options += ["--endpoints", f"https://127.0.0.1:{port}", "--command-timeout", "5s"]
        environment = {"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["etcdctl", *options, *arguments], env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def services_know(self, name: str, *members: str) -> None:
        """This host's services were given these members by an earlier apply."""
        file = self.root(name) / "etc/griddle/griddle.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        urls = [f"https://{self.cluster.hosts[member].address}:2379" for member in members]
        file.write_text(json.dumps({"etcd": {"endpoints": urls}}, indent=1) + "\n")

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()
