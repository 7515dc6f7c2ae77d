"""`griddle bench counting`: what counting costs a request, in CPU time, in Lua (inside nginx) and in Python."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster import table
from cluster.errors import UserError
from deploys.proxy.nginx import lua_files
from services.metrics import Metrics

REPEATS = 5
TIMES = 300_000
_CONF = """
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
pid /dev/null;
daemon off;
master_process off;
error_log stderr error;
events {}
http {
    access_log off;
    lua_package_path "${prefix}lua/?.lua;;";
    init_by_lua_block { require("settings").statsd_host = "127.0.0.1" require("settings").statsd_port = 9 }
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    scgi_temp_path temp;
    uwsgi_temp_path temp;
    server {
        listen unix:@SOCKET@;
        location /v1/profiles/ {
            content_by_lua_block {
                local metrics = require "metrics"
                local found = {}
                local function cpu_ns(times, call)
                    collectgarbage()
                    local started = os.clock()
                    for i = 1, times do call() end
                    return (os.clock() - started) / times * 1e9
                end
                local times = @TIMES@
                found.direct = cpu_ns(times, function() metrics.read_direct("r-0123456789ab") end)
                found.front = cpu_ns(times, function() metrics.answered("wsgi", 200, "r-0123456789ab") end)
                found.shed = cpu_ns(times, function()
                    metrics.answered("direct", 503, "r-0123456789ab", nil, "expired")
                end)
                found.loop = cpu_ns(times, function() end)
                for i = 1, 16 do
                    metrics.read_direct("r-" .. i)
                end
                local started = os.clock()
                for i = 1, 1000 do
                    metrics.read_direct("r-" .. i % 16 + 1)
                    metrics.datagrams()
                end
                found.flush = (os.clock() - started) * 1e6
                ngx.say(require("cjson.safe").encode(found))
            }
        }
    }
}
"""


def lua() -> dict[str, float]:
    """CPU nanoseconds of each kind of counting in nginx; `flush`: of one flush of sixteen series."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "lua").mkdir()
        for file, text in lua_files().items():
            (directory / "lua" / file).write_text(text)
        socket = directory / "socket"
        conf = directory / "nginx.conf"
        conf.write_text(_CONF.replace("@SOCKET@", str(socket)).replace("@TIMES@", str(TIMES)))
        command = ["/usr/sbin/nginx", "-p", f"{directory}/", "-c", str(conf), "-e", "stderr"]
        try:
            nginx = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        except FileNotFoundError:
            raise UserError("nginx with Lua is missing (nginx-light, libnginx-mod-http-lua)") from None
        try:
            url = "http://localhost/v1/profiles/p1"
            ask = ["curl", "--noproxy", "*", "-fsS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]
            while not socket.exists() and nginx.poll() is None:
                time.sleep(0.05)
            done = subprocess.run([*ask, "--unix-socket", str(socket), url], capture_output=True, text=True)
            return json.loads(done.stdout)
        finally:
            nginx.kill()
            nginx.wait()


def python() -> dict[str, float]:
    """The same of the services' side."""
    metrics = Metrics("store", "a", 0, "r-0123456789ab", "127.0.0.1", 9)

    def cpu_ns(call: Any, times: int = TIMES) -> float:
        started = time.process_time_ns()
        for _ in range(times):
            call()
        return (time.process_time_ns() - started) / times

    found = {
        "add": cpu_ns(lambda: metrics.add("requests", 7)),
        "observe": cpu_ns(lambda: metrics.observe("read", 3.2, 7)),
        "loop": cpu_ns(lambda: None),
    }

    def flush() -> None:
        metrics.add("requests")
        metrics.observe("read", 3.2)
        metrics.flush()

    return found | {"flush": cpu_ns(flush, 1000)}


def best(measure: Any) -> dict[str, float]:
    """The least of some repetitions: what others do on the machine only ever adds."""
    runs = [measure() for _ in range(REPEATS)]
    return {name: min(run[name] for run in runs) for name in runs[0]}


def bench_counting(as_json: bool) -> None:
    """Measure and print."""
    in_lua, in_python = best(lua), best(python)
    if as_json:
        print(json.dumps({"lua_ns": in_lua, "python_ns": in_python}, indent=2))
        return
    rows = [
        ("nginx: a read by the direct lane", in_lua["direct"] - in_lua["loop"]),
        ("nginx: an answer by the front", in_lua["front"] - in_lua["loop"]),
        ("nginx: a request that was shed", in_lua["shed"] - in_lua["loop"]),
        ("nginx: a flush, 1 of 16 series changed", in_lua["flush"]),
        ("store: a batch (two counters, one latency)", 2 * in_python["add"] + in_python["observe"]
         - 3 * in_python["loop"]),
        ("front: an answer (one counter, one latency)", in_python["add"] + in_python["observe"]
         - 2 * in_python["loop"]),
        ("services: a flush, 1 of 1 series changed", in_python["flush"]),
    ]  # fmt: skip
    print(f"CPU time, least of {REPEATS} runs of {TIMES:,}")
    print(table.aligned([(name, f"{nanoseconds / 1000:.2f} µs") for name, nanoseconds in rows], indent=2))
