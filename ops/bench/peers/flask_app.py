"""Flask, for gunicorn's gthread workers: a thread reads the store and waits for it."""

import os

from flask import Flask, Response, abort

from ops.bench.peers.engine import opened, read

engine = opened(int(os.environ["BENCH_PROFILES"]))
application = Flask(__name__)


@application.get("/v1/profiles/<name>")
def profile(name: str) -> Response:
    value = read(engine, name)
    if value is None:
        abort(404)
    return Response(value, mimetype="application/json")
