"""FastAPI, for uvicorn with uvloop and httptools: the event loop never waits for the store.

FoundationDB wakes the loop from its own thread by a callback (the `asyncio` mode of its binding needs
asyncio.coroutine, which Python 3.11 has no more); etcd is asked by aiohttp over kept-alive connections.
"""

import asyncio
import os
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Response

from ops.bench.peers.engine import TIMEOUT_MS, opened, read
from services import profile
from services.config import Config, load
from services.engines.base import VERSION_BYTES

Reader = Callable[[str], Awaitable[bytes | None]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    config = load()
    readers = {"memory": from_memory, "fdb": from_foundationdb, "etcd": from_etcd}
    async with readers[config.store.engine](config) as reader:
        app.state.read = reader
        yield


application = FastAPI(lifespan=lifespan, openapi_url=None)


@application.get("/v1/profiles/{name}")
async def get_profile(name: str) -> Response:
    value = await application.state.read(name)
    if value is None:
        raise HTTPException(404)
    return Response(value, media_type="application/json")


@asynccontextmanager
async def from_memory(_: Config) -> AsyncIterator[Reader]:
    engine = opened(int(os.environ["BENCH_PROFILES"]))

    async def read_profile(name: str) -> bytes | None:
        return read(engine, name)

    yield read_profile


@asynccontextmanager
async def from_foundationdb(config: Config) -> AsyncIterator[Reader]:
    import ctypes

    ctypes.CDLL(config.fdb.client_library, mode=ctypes.RTLD_GLOBAL)
    import fdb

    fdb.api_version(config.fdb.api_version)
    database = fdb.open(config.fdb.cluster_file)
    database.options.set_transaction_timeout(TIMEOUT_MS)
    loop = asyncio.get_running_loop()

    async def read_profile(name: str) -> bytes | None:
        transaction = database.create_transaction()  # without this name it would be gone, and the read cancelled
        future = transaction.snapshot.get(profile.key_of(name))
        ready = loop.create_future()
        future.on_ready(lambda _: loop.call_soon_threadsafe(ready.set_result, None))
        await ready
        value = future.wait()
        return bytes(value)[VERSION_BYTES:] if value.present() else None

    yield read_profile


@asynccontextmanager
async def from_etcd(config: Config) -> AsyncIterator[Reader]:
    import json

    import aiohttp

    url = config.etcd.endpoints[0] + "/v3/kv/range"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=256),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(TIMEOUT_MS / 1000),
    ) as session:

        async def read_profile(name: str) -> bytes | None:
            question = json.dumps({"key": b64encode(profile.key_of(name)).decode()})
            async with session.post(url, data=question) as answer:
                kvs = json.loads(await answer.read()).get("kvs")
            return b64decode(kvs[0]["value"]) if kvs else None

        yield read_profile
