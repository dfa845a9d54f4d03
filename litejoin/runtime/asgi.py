"""The application of all listeners: which handler answers, and what holds for every request.

`Listeners` makes one router per address; handlers are ASGI callables that may raise LiteJoinError,
which becomes a JSON answer here. Checks Host, Origin and token before a handler sees the request.
Never reads a body and never logs a query string (it may hold a token).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from litejoin.errors import LiteJoinError, RequestError
from litejoin.runtime.http_access import Access, bearer, query_token
from litejoin.runtime.http_answers import (
    App,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    answer_error,
    answer_json,
    send_answer,
)
from litejoin.runtime.http_request import printable

log = logging.getLogger("litejoin.http")

AccessScope = Literal["ingest", "subscribe", "admin"]
Health = Callable[[], Mapping[str, object]]

NOT_SERVING = frozenset({"starting", "draining"})
"""States in which /health says 503, so that a load balancer sends nobody here."""

ANY_TOPIC = "{topic}"
"""The last part of a path whose handler takes any; a path of its own comes first."""

SAFE_METHODS = frozenset({"GET", "HEAD"})

PREFLIGHT: Headers = (
    (
        b"access-control-allow-headers",
        b"authorization, content-type, content-encoding, idempotency-key, last-event-id",
    ),
    (b"access-control-max-age", b"600"),
)
EXPOSED = (b"access-control-expose-headers", b"litejoin-position, litejoin-truncated, retry-after")


@dataclass(frozen=True, slots=True)
class Route:
    """A handler and what it asks of a token; `scope` None: open to everyone."""

    handler: App
    scope: AccessScope | None
    query_token: bool


class Router:
    """The application of one address."""

    def __init__(self, access: Access, health: Health, *, loopback: bool) -> None:
        self._access = access
        self._health = health
        self._loopback = loopback
        self._routes: dict[str, dict[str, Route]] = {}
        self.add("GET", "/health", self._answer_health, None)

    def add(
        self,
        method: str,
        path: str,
        handler: App,
        scope: AccessScope | None,
        *,
        query_token: bool = False,
    ) -> None:
        """Let `handler` answer `method path`. Raises ValueError when something does already."""
        methods = self._routes.setdefault(path, {})
        if method in methods:
            raise ValueError(f"{method} {path} has a handler already")
        methods[method] = Route(handler, scope, query_token)

    def paths(self) -> tuple[str, ...]:
        """All paths, those added last first (/health last)."""
        return tuple(reversed(self._routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        fields = dict(scope["headers"])
        host = fields.get(b"host")
        origin = fields.get(b"origin")
        try:
            if self._loopback:
                self._access.check_host(host)
            if host is None and scope["http_version"] == "1.1":
                raise RequestError("the Host header is missing", status=400)
            if origin is not None:
                send = self._check_origin(scope, origin, host, send)
                if scope["method"] == "OPTIONS" and b"access-control-request-method" in fields:
                    await self._answer_preflight(scope, send)
                    return
            route = self._find(scope)
            if route.scope is not None and not self._access.open:
                self._access.check_scope(route.scope, credentials(route, scope, fields))
            await route.handler(scope, receive, send)
        except LiteJoinError as error:
            await self._answer_error(scope, send, error)

    def _methods(self, path: str) -> Mapping[str, Route]:
        """The routes of a path: its own, or those that take any last part of it."""
        own = self._routes.get(path)
        return own or self._routes.get(path[: path.rfind("/") + 1] + ANY_TOPIC, {})

    def _find(self, scope: Scope) -> Route:
        methods = self._methods(scope["path"])
        if not methods:
            known = " ".join(self.paths())
            raise RequestError(
                f"no such path: {printable(scope['path'])}", status=404, hint=f"paths here: {known}"
            )
        method = scope["method"]
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allow = ", ".join(sorted(methods))
            raise RequestError(
                f"{scope['path']} takes {allow}, not {method}",
                status=405,
                headers=((b"allow", allow.encode()),),
            )
        return route

    def _check_origin(self, scope: Scope, origin: bytes, host: bytes | None, send: Send) -> Send:
        """Refuse changes that a foreign web page sends; let allowed pages read the answers."""
        if self._access.allowed_origin(origin, host):
            return with_headers(
                send,
                ((b"access-control-allow-origin", origin), (b"vary", b"origin"), EXPOSED),
            )
        if scope["method"] not in SAFE_METHODS:
            raise RequestError(
                "this origin may not send requests here",
                status=403,
                hint="add it to server.cors_origins",
            )
        return send

    async def _answer_preflight(self, scope: Scope, send: Send) -> None:
        methods = ", ".join(sorted(self._methods(scope["path"]))).encode()
        headers = [(b"access-control-allow-methods", methods), *PREFLIGHT]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})

    async def _answer_health(self, scope: Scope, _receive: Receive, send: Send) -> None:
        state = self._health()
        status = state["status"]
        if not self._access.open:
            authorization = dict(scope["headers"]).get(b"authorization")
            if "admin" not in (self._access.scopes(bearer(authorization)) or ()):
                state = {"status": status}
        code = 503 if status in NOT_SERVING else 200
        await send_answer(send, answer_json(code, state, ((b"cache-control", b"no-store"),)))

    async def _answer_error(self, scope: Scope, send: Send, error: LiteJoinError) -> None:
        answer = answer_error(error)
        if answer.status == 500:
            log.error("http: %s %s failed: %s", scope["method"], scope["path"], error)
        await send_answer(send, answer)


def credentials(route: Route, scope: Scope, fields: dict[bytes, bytes]) -> bytes | None:
    """The token of a request, from where the route takes it."""
    token = bearer(fields.get(b"authorization"))
    if token is None and route.query_token:
        return query_token(scope["query_string"])
    return token


def with_headers(send: Send, headers: Headers) -> Send:
    """A send that adds headers to the answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return sending
