"""Around every request: body limit, HEAD as GET, security headers, access log and metrics."""

import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.encodings import BodyCaps
from services.api.metrics import Metrics
from services.api.problems import problem_response, translate

access = logging.getLogger("services.api.access")

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,100}$")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class BodyLimit:
    """Refuses bodies over their cap, by their declared length or as they arrive."""

    def __init__(self, app: ASGIApp, *, caps: BodyCaps) -> None:
        self._app = app
        self._caps = caps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._caps.of(scope["path"])
        problem = self._caps.problem(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            await problem_response(problem)(scope, receive, send)
            return
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise problem
            return message

        await self._app(scope, limited, send)


class HeadAsGet:
    """Answers HEAD as GET without the body, on every route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered = False

        async def gone() -> Message:
            # Once the headers are out, a stream has no reader any more.
            return {"type": "http.disconnect"} if answered else await receive()

        async def headers_only(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered = True

        await self._app({**scope, "method": "GET", "bauta.head": True}, gone, headers_only)


class Observe:
    """Security headers, a request id, one access line and the metrics of each request."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8)
        began, status = time.perf_counter(), 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [*_SECURITY, (b"x-request-id", request_id.encode())]
                known = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in extra if pair[0] not in known]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            seconds = time.perf_counter() - began
            route = _route(scope)
            self._metrics.observe(scope["method"], route, status, seconds)
            # The route's template, not the path: ids of tenants' things stay out of the log.
            access.info("%s %s %d %.4f s %s", scope["method"], route, status, seconds, request_id)


class CatchAll:
    """Turns what no handler caught into a problem, without a traceback to the client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            problem = translate(error)
            if started or scope["type"] != "http":
                return
            await problem_response(problem)(scope, receive, send)


def _route(scope: MutableMapping[str, Any]) -> str:
    route = scope.get("route")
    return str(getattr(route, "path", "unmatched"))
