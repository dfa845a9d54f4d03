"""A transport that answers from a function, and a source over it: for walks of many pages."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from litejoin.clock import ManualClock
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.sources.api import ApiSource
from litejoin.sources.api.budget import Budgets
from litejoin.sources.api.transport import Request, Response
from tests.unit.sources.api_world import PLAN, Store

Handler = Callable[["Asked"], Response]
URL = "https://api.test/items"


class Asked:
    """One request as a test reads it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.path = urlsplit(request.url).path
        self.params = dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True))
        self.headers = {name.lower(): text for name, text in request.headers.items()}
        self.body: Any = None
        if request.body is not None and request.body[:1] == b"{":
            self.body = json.loads(request.body)
        self.form = dict(parse_qsl((request.body or b"").decode()))


def page(body: Any, status: int = 200, **headers: str) -> Response:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {n.replace("_", "-"): t for n, t in headers.items()}, bytearray(text))


class Scripted:
    """A Transport whose answers come from `handler`, which a test may replace."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []

    def send(self, request: Request) -> Response:
        asked = Asked(request)
        self.asked.append(asked)
        return self.handler(asked)

    def expire(self) -> None:
        raise AssertionError("no request here takes long")

    def close(self) -> None:
        return None


class Api:
    """A source over a scripted API. `restart` makes a new one over what is durable."""

    def __init__(self, handler: Handler, **changes: Any) -> None:
        self.wire = Scripted(handler)
        self.plan: ApiSourcePlan = replace(
            PLAN, **{"url": URL, "headers": {}, "max_response_bytes": 1 << 20, **changes}
        )
        self.store = Store()
        self.clock = ManualClock()
        self.slept: list[float] = []
        self.executor = ThreadPoolExecutor(1)
        self.restart()

    def restart(self, budgets: Budgets | None = None, **changes: Any) -> None:
        self.plan = replace(self.plan, **changes)
        self.source = ApiSource(
            self.plan, self.store, self.store, self.clock, self.executor,
            sleep=self.sleep, transport=self.wire, budgets=budgets,
        )  # fmt: skip

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(int(seconds * 1000))
        await asyncio.sleep(0)

    async def poll(self) -> list[tuple[str, str]]:
        """One poll; the topic's changes as (kind, key)."""
        before = len(self.store.log)
        self.wire.asked.clear()
        self.ok = await self.source.poll()
        return [(row.kind.name, row.key.decode()) for row in self.store.log[before:]]

    @property
    def keys(self) -> list[str]:
        return sorted((key.decode() for key in self.store.topic), key=lambda k: (len(k), k))

    @property
    def incomplete(self) -> str:
        return str(self.source.health().get("incomplete", ""))

    @property
    def reason(self) -> str:
        health = self.source.health()
        return str(health.get("reason", health.get("last_error", "")))


def run(story: Callable[[Api], Any], handler: Handler, **changes: Any) -> Api:
    """Tell a story about one API."""
    api = Api(handler, **changes)
    try:
        asyncio.run(story(api))
    finally:
        api.executor.shutdown()
    return api


def items(start: int, stop: int, **more: Any) -> list[Mapping[str, Any]]:
    return [{"id": n, **more} for n in range(start, stop)]
