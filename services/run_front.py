"""Runs one front worker under gunicorn: `python -m services.run_front --slot a --worker 0`.

One process, with its own listening socket, per unit: a meinheld worker serves one request at a time and keeps
its connections, so that several on one socket would leave requests behind busy workers while others idle.
nginx chooses among them. Handlers are synchronous: meinheld's own continuations crash with keep-alive
connections, and are left out where it is built.
"""

import argparse
import os
import sys

from services.config import SLOTS, ConfigError, load, slot_port

STOP_SECONDS = 5


def gunicorn_arguments(slot: str, worker: int, address: str, port: int, backlog: int) -> list[str]:
    """gunicorn's command line."""
    return [
        "gunicorn",
        "services.front:application",
        f"--bind={address}:{slot_port(port, slot, worker)}",
        f"--backlog={backlog}",
        "--workers=1",
        "--worker-class=services.front_worker.FrontWorker",
        "--worker-connections=4096",  # meinheld's highest file descriptor
        "--keep-alive=120",  # longer than nginx keeps an idle connection: only nginx closes them
        "--timeout=30",
        f"--graceful-timeout={STOP_SECONDS}",
        "--worker-tmp-dir=/dev/shm",
        "--no-control-socket",
        f"--name=griddle-front-{slot}-{worker}",
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.run_front")
    parser.add_argument("--slot", choices=SLOTS, required=True)
    parser.add_argument("--worker", type=int, required=True)
    options = parser.parse_args(arguments)
    try:
        front = load().front
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    os.environ["GRIDDLE_SLOT"], os.environ["GRIDDLE_WORKER"] = options.slot, str(options.worker)
    command = gunicorn_arguments(options.slot, options.worker, front.address, front.port, front.backlog)
    os.execv(sys.executable, [sys.executable, "-m", *command])


if __name__ == "__main__":
    sys.exit(main())
