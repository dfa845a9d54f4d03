"""Calls an ASGI handler as a server would, with a client that may read slowly or go away."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Event:
    """One server-sent event with the last id at that moment."""

    name: str
    data: Any
    id: str


Query = Mapping[str, str | Sequence[str]]
"""Parameters; of one that comes more than once all values."""


class Call:
    """One request in progress. `reading` cleared: the client takes nothing any more."""

    def __init__(self, app: App, query: Query, headers: dict[str, str], method: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.reading = asyncio.Event()
        self.reading.set()
        self._gone = asyncio.Event()
        self._scope = {
            "type": "http", "method": method, "path": "/",
            "query_string": urlencode(query, doseq=True).encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        self.task = asyncio.ensure_future(app(self._scope, self._receive, self._send))
        self._asked = False

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        self.body += message.get("body", b"")
        self.complete = not message.get("more_body", False)
        await self.reading.wait()

    async def leave(self) -> None:
        """The client closes its connection."""
        self._gone.set()
        self.reading.set()
        await self.task

    @property
    def events(self) -> list[Event]:
        """The whole events so far, parsed as a browser does."""
        found, last_id = [], ""
        for block in self.body.decode().split("\n\n")[:-1]:
            name, data = "message", list[str]()
            for line in block.split("\n"):
                field, _, value = line.partition(": ")
                if field == "id":
                    last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
            if data:
                found.append(Event(name, json.loads("\n".join(data)), last_id))
        return found

    @property
    def last_id(self) -> str:
        """What the client would send as Last-Event-ID."""
        ids = [line[4:] for line in self.body.decode().split("\n") if line.startswith("id: ")]
        return ids[-1] if ids else ""

    def seqs(self) -> list[int]:
        """Positions of the changes so far."""
        return [e.data["seq"] for e in self.events if e.name == "join_result"]


def call(
    app: App, query: Query, headers: dict[str, str] | None = None, method: str = "GET"
) -> Call:
    return Call(app, query, headers or {}, method)
