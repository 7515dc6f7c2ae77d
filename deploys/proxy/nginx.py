"""nginx.conf from its values. One template for the proxies, for `griddle dev` and for the tests."""

from dataclasses import asdict, dataclass

from cluster.paths import ROOT
from deploys.framework.render import render

FOLDER = ROOT / "nginx"
CONFIG_JSON = "../griddle/griddle.json"  # from /etc/nginx
LUA_FILES = tuple(sorted(path.name for path in (FOLDER / "lua").glob("*.lua")))


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxValues:
    """Paths are absolute, except those under nginx's prefix (-p): config_json, and the folder `lua`.

    So the same file can be checked where it is staged, with what was staged beside it.
    """

    fronts: int  # how many there are, of all app hosts and slots; griddle.json says where
    stores: int
    default_release: str  # named by answers in which no release had a part
    config_json: str = CONFIG_JSON
    listen: str = "80"
    user: str = "www-data"  # empty: nginx is not started as root
    worker_processes: str = "auto"
    worker_connections: int = 16384
    file_limit: int = 65536
    backlog: int = 1024
    reuseport: bool = True
    pid: str = "/run/nginx.pid"
    error_log: str = "/var/log/nginx/error.log"
    access_log: str = "/var/log/nginx/access.log"
    log_all: bool = False  # every request, not only those that failed
    temp: str = "/var/lib/nginx"
    body_limit_bytes: int = 65536
    deadline_ms: int = 250
    write_timeout_ms: int = 6000  # above the 5 s that a store worker gives a write


def nginx_conf(values: NginxValues) -> str:
    """The whole nginx.conf."""
    # the front answers 503 itself at its deadline: nginx waits a little longer than that
    return render(FOLDER / "nginx.conf.j2", **asdict(values), read_timeout_ms=values.deadline_ms + 150)


def lua_files() -> dict[str, str]:
    """{file name: content} of the Lua program."""
    return {name: (FOLDER / "lua" / name).read_text(encoding="utf-8") for name in LUA_FILES}


def check_conf(config_json: str = CONFIG_JSON) -> str:
    """A configuration with which nginx only loads the Lua program and its settings, and says what is wrong there.

    `nginx -t` does not run init_by_lua. Exit code 0, or 1 with a line on stderr:
    nginx -p PREFIX -c check.conf -e stderr
    """
    return (FOLDER / "check.conf").read_text(encoding="utf-8").replace("@CONFIG_JSON@", config_json)
