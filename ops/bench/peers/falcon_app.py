"""Falcon, for gunicorn with meinheld: one request at a time, which waits for the store."""

import os

import falcon

from ops.bench.peers.engine import opened, read

engine = opened(int(os.environ["BENCH_PROFILES"]))


class Profile:
    def on_get(self, _: falcon.Request, response: falcon.Response, name: str) -> None:
        value = read(engine, name)
        if value is None:
            raise falcon.HTTPNotFound
        response.content_type = "application/json"
        response.data = value


application = falcon.App()
application.add_route("/v1/profiles/{name}", Profile())
