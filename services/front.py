"""The WSGI application of the `front` workers. Handlers are synchronous: see services/run_front.py.

    gunicorn --config python:services.run_front services.front:application

Routes: GET, HEAD, PUT, DELETE /v1/profiles/{id}; POST /v1/profiles/{id}/messages; GET, HEAD
/v1/profiles/{id}/feed; GET /healthz (this process), /readyz (the store answers, and takes writes),
/version, /v1/openapi.json. Errors are RFC 9457 problem documents. Every answer carries X-Release.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus

from services import message, openapi, profile, sp
from services.client import StoreAway, StoreClient
from services.config import Config, load
from services.control import Control
from services.http import Answer, Problem, Request, entity_tag, json_answer, matches, tags_of, version_of
from services.metrics import Metrics
from services.nudge import Nudger
from services.release import running_release

WRITE_DEADLINE_MS = 5000
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
PROFILES = "/v1/profiles/"
TRIES = 5  # of a transaction whose conflict is not the client's

log = logging.getLogger("front")


class Front:
    """The application, for one process and one thread."""

    def __init__(
        self, config: Config, client: StoreClient, release: str, metrics: Metrics,
        nudge: Callable[[], None] = lambda: None, control: Control | None = None,
    ) -> None:  # fmt: skip
        """`nudge` is called after a commit that has added to the log."""
        self._nudge = nudge
        self._client, self._release, self._metrics = client, release, metrics
        self._config = config
        self._read_deadline_ms = config.store.deadline_ms
        self._control = control or Control()
        self._value_limit_bytes = config.store.value_limit_bytes
        described = openapi.document(self._value_limit_bytes)
        description = Answer(200, [("Content-Type", "application/json")], described)
        self._static: dict[str, Callable[[], Answer]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/version": self._version,
            "/v1/openapi.json": lambda: description,
        }

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        started = time.monotonic()
        try:
            request = Request(environ)
            answer = self._route(request)
            if answer.status == 200:
                answer = _as_asked(request, answer)
        except Problem as problem:
            answer = problem.answer()
        except StoreAway as error:
            log.warning("the store is away: %s", error)
            answer = Problem(503, "the store does not answer").answer()
        except Exception:
            log.exception("%s %s", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            answer = Problem(500, "this is a fault of the service").answer()
        headers = [*answer.headers, ("X-Release", self._release)]
        if answer.status not in (204, 304):
            headers.append(("Content-Length", str(len(answer.body))))
        self._metrics.add(f"answers;status={answer.status}")
        self._metrics.observe("answer", (time.monotonic() - started) * 1000)
        start_response(STATUS_LINES[answer.status], headers)
        return () if environ["REQUEST_METHOD"] == "HEAD" or answer.status == 304 else (answer.body,)

    def _route(self, request: Request) -> Answer:
        if request.path.startswith(PROFILES):
            profile_id, slash, below = request.path[len(PROFILES) :].partition("/")
            profile.checked_id(profile_id)
            if slash:
                return self._route_below(request, profile_id, below)
            if request.method in ("GET", "HEAD"):
                return self._get_profile(profile_id)
            if request.method == "PUT":
                return self._put_profile(request, profile_id)
            if request.method == "DELETE":
                return self._delete_profile(request, profile_id)
            raise _NotAllowed("GET, HEAD, PUT, DELETE")
        handler = self._static.get(request.path)
        if handler is None:
            raise Problem(404, "no such resource")
        if request.method not in ("GET", "HEAD"):
            raise _NotAllowed("GET, HEAD")
        return handler()

    def _route_below(self, request: Request, profile_id: str, below: str) -> Answer:
        if below == "messages":
            if request.method != "POST":
                raise _NotAllowed("POST")
            return self._post_message(request, profile_id)
        if below == "feed":
            if request.method not in ("GET", "HEAD"):
                raise _NotAllowed("GET, HEAD")
            return self._get_feed(request, profile_id)
        raise Problem(404, "no such resource")

    def _get_profile(self, profile_id: str) -> Answer:
        reply = self._client.ask(sp.GET, profile.key_of(profile_id), self._read_ms())
        if reply.status != sp.OK:
            raise _problem_of(reply)
        tag = entity_tag(reply.body[: sp.VERSION_BYTES])
        headers = [("Content-Type", "application/json"), ("ETag", tag)]
        return Answer(200, headers, reply.body[sp.VERSION_BYTES :])

    def _put_profile(self, request: Request, profile_id: str) -> Answer:
        value = profile.stored(profile_id, request.body(self._value_limit_bytes))
        if len(value) > self._value_limit_bytes:
            raise Problem(413, f"profile of {len(value)} bytes, limit {self._value_limit_bytes}", field="body")
        key = profile.key_of(profile_id)
        body = sp.transact_body(self._conditions(request, key), {key: value})
        reply = self._client.ask(sp.TRANSACT, body, WRITE_DEADLINE_MS)
        if reply.status == sp.CONFLICT and request.header("IF_MATCH") is not None:
            # Asked again by nginx, because a front has died before it answered? What has been done already may be
            # answered as a success (RFC 9110, 13.1.1).
            reply = self._client.ask(sp.GET, key, self._read_ms())
            if reply.status == sp.OK and reply.body[sp.VERSION_BYTES :] != value:
                reply = reply._replace(status=sp.CONFLICT)
        if reply.status in (sp.CONFLICT, sp.NOT_FOUND):
            raise Problem(412, "the profile has another version")
        if reply.status != sp.OK:
            raise _problem_of(reply)
        return Answer(204, [("ETag", entity_tag(reply.body[: sp.VERSION_BYTES]))], b"")

    def _delete_profile(self, request: Request, profile_id: str) -> Answer:
        key = profile.key_of(profile_id)
        checks = self._conditions(request, key)
        if sp.ABSENT in checks.values():
            raise Problem(400, "with DELETE only If-Match is understood", field="If-None-Match")
        for _ in range(TRIES):
            seen = checks or {key: self._version_of(key, missing=404)}
            writes = {key: None, message.APPEND: message.deleted_event(profile_id)}
            reply = self._client.ask(sp.TRANSACT, sp.transact_body(seen, writes), WRITE_DEADLINE_MS)
            if reply.status == sp.OK:
                self._nudge()
                return Answer(204, [], b"")
            if reply.status != sp.CONFLICT:
                raise _problem_of(reply)
            if checks:
                raise Problem(412, "the profile has another version")
        raise Problem(503, "the profile changes all the time")

    def _post_message(self, request: Request, profile_id: str) -> Answer:
        key = message.idempotency_key(request.header("IDEMPOTENCY_KEY"))
        fields = message.checked_body(request.body(self._value_limit_bytes))
        profile_key, record_key = profile.key_of(profile_id), message.key_of("idempotency", profile_id, key)
        for _ in range(TRIES):
            known = self._client.ask(sp.GET, record_key, self._read_ms())
            if known.status == sp.OK:
                record = known.body[sp.VERSION_BYTES :]
                if record[: message.FINGERPRINT_BYTES] != message.fingerprint(fields):
                    raise Problem(422, "was used for another message", field=message.KEY_HEADER)
                return _created(record[message.FINGERPRINT_BYTES :])
            if known.status != sp.NOT_FOUND:
                raise _problem_of(known)
            checks = {record_key: sp.ABSENT, profile_key: self._version_of(profile_key, missing=404)}
            writes = message.writes(profile_id, key, fields)
            reply = self._client.ask(sp.TRANSACT, sp.transact_body(checks, writes), WRITE_DEADLINE_MS)
            if reply.status == sp.OK:
                self._nudge()
                return _created(writes[record_key][message.FINGERPRINT_BYTES :])
            # Whatever became of it, the next round finds the record or writes it. The client would do the same;
            # while an operation is announced, it need not.
            again = reply.status == sp.UNAVAILABLE and self._control.wait_ms
            if reply.status != sp.CONFLICT and not again:
                raise _problem_of(reply)
        raise Problem(503, "the profile changes all the time")

    def _get_feed(self, request: Request, profile_id: str) -> Answer:
        limit, before = message.page_of(request.environ.get("QUERY_STRING", ""))
        body = sp.range_body(*message.feed_range(profile_id, before), limit, reverse=True)
        reply = self._client.ask(sp.RANGE, body, self._read_ms())
        if reply.status != sp.OK:
            raise _problem_of(reply)
        page = message.page(sp.parse_range_reply(reply.body), limit)
        return Answer(200, [("Content-Type", "application/json")], page)

    def _conditions(self, request: Request, key: bytes) -> dict[bytes, bytes]:
        """What If-Match or If-None-Match ask of the profile, as checks of the transaction."""
        match, none_match = request.header("IF_MATCH"), request.header("IF_NONE_MATCH")
        if match is not None and none_match is not None:
            raise Problem(400, "contradicts If-Match", field="If-None-Match")
        if none_match is not None:
            if none_match.strip() != "*":
                raise Problem(400, "with a write only * is understood", field="If-None-Match")
            return {key: sp.ABSENT}
        if match is None:
            return {}
        anything = match.strip() == "*"
        tags = [] if anything else tags_of(match, "If-Match")
        if len(tags) == 1 and (version := version_of(tags[0])) not in (None, sp.ABSENT):
            return {key: version}
        version = self._version_of(key, missing=412)
        if not anything and entity_tag(version) not in tags:
            raise Problem(412, "the profile has another version")
        return {key: version}

    def _version_of(self, key: bytes, missing: int) -> bytes:
        """The profile's present version; a problem with status `missing` if there is none."""
        reply = self._client.ask(sp.GET, key, self._read_ms())
        if reply.status == sp.NOT_FOUND:
            raise Problem(missing, "no such profile")
        if reply.status != sp.OK:
            raise _problem_of(reply)
        return reply.body[: sp.VERSION_BYTES]

    def _read_ms(self) -> int:
        """How long a read may take: longer while an operation on the store is announced."""
        return max(self._read_deadline_ms, self._control.wait_ms)

    def _healthz(self) -> Answer:
        return json_answer({"status": "ok"})

    def _readyz(self) -> Answer:
        reply = self._client.ask(sp.PING, b"", self._read_ms())
        if reply.status != sp.OK:
            raise _problem_of(reply)
        return json_answer({"status": "ready"})

    def _version(self) -> Answer:
        return json_answer(
            {"release": self._release, "host": self._config.host.name, "engine": self._config.store.engine}
        )


def _as_asked(request: Request, answer: Answer) -> Answer:
    """A read's 200 under its preconditions (RFC 9110, 13.2.2); those by date do not count: nothing has one."""
    wanted, known = request.header("IF_MATCH"), request.header("IF_NONE_MATCH")
    if wanted is None and known is None:
        return answer
    tags = [header for header in answer.headers if header[0] == "ETag"]
    tag = tags[0][1] if tags else None
    if wanted is not None and wanted.strip() != "*" and tag not in tags_of(wanted, "If-Match"):
        raise Problem(412, "the profile has another version" if tag else "the resource has no entity tag")
    if known is not None and matches(known, tag):
        return Answer(304, tags, b"")
    return answer


def _created(stored: bytes) -> Answer:
    return Answer(201, [("Content-Type", "application/json")], stored)


class _NotAllowed(Problem):
    def __init__(self, allowed: str) -> None:
        super().__init__(405, f"allowed: {allowed}")
        self.allowed = allowed

    def answer(self) -> Answer:
        answer = super().answer()
        return answer._replace(headers=[*answer.headers, ("Allow", self.allowed)])


def _problem_of(reply: sp.Reply) -> Problem:
    """What a client is told for a store worker's refusal."""
    if reply.status == sp.NOT_FOUND:
        return Problem(404, "no such profile")
    if reply.status == sp.TOO_LARGE:
        return Problem(413, reply.body.decode("utf-8", "replace"))
    if reply.status == sp.FULL:
        return Problem(507, "the store is full: writes are refused until it has room again, reads go on")
    if reply.status in (sp.UNAVAILABLE, sp.EXPIRED, sp.UNSUPPORTED):
        return Problem(503, "the store does not answer")
    log.error("store worker: status %d: %s", reply.status, reply.body.decode("utf-8", "replace"))
    return Problem(500, "this is a fault of the service")


def make_application() -> Front:
    """The application of the worker that $GRIDDLE_SLOT and $GRIDDLE_WORKER name; after the last fork."""
    config = load()
    slot, worker = os.environ["GRIDDLE_SLOT"], int(os.environ["GRIDDLE_WORKER"])
    paths = [config.store.ipc.format(slot=slot, worker=i) for i in range(config.store.workers)]
    release = running_release()
    metrics = Metrics("front", slot, worker, release, config.statsd.host, config.statsd.port)
    metrics.start()
    nudge = Nudger(config.feed.nudge.format(slot=slot)).nudge
    return Front(config, StoreClient(paths, first=worker), release, metrics, nudge, Control().start())


def __getattr__(name: str) -> Front:
    """`services.front:application`, made when gunicorn's worker asks for it."""
    if name == "application":
        application = globals()["application"] = make_application()
        return application
    raise AttributeError(name)
