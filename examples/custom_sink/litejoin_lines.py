"""A sink of one's own: every result as a line of JSON over one TCP connection.

The receiver answers each line with `ok`, or with `no <reason>` for one that it will never take. The
contract is `litejoin.sinks.base.Sink`; this file and an entry point are all it takes.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from litejoin.errors import SinkError
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome

TIMEOUT_S = 10.0


class LinesSink:
    """Made once when the pipeline starts: `name` and `config` are those of the config file."""

    max_in_flight = 1  # one connection, and answers come in the order of the lines

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self._config = config
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Refuse what can never work. A receiver that is down is none of it."""
        if not isinstance(self._config.get("port"), int):
            raise SinkError(f"sink {self.name}: `port` must be a number", hint="port: 7000")

    async def deliver(self, result: Result) -> Outcome:
        """Send one result; LiteJoin remembers it until this says that it was delivered."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._send(result.body())
        except (OSError, TimeoutError) as error:
            self._disconnect()
            return Outcome("retry", f"{type(error).__name__}: {error}", uncertain=True)
        if answer.startswith("no "):
            return Outcome("reject", answer[3:])
        if answer != "ok":  # also an empty one: the connection ended
            self._disconnect()
            return Outcome("retry", f"the receiver answered {answer!r}", uncertain=True)
        return DELIVERED

    async def close(self) -> None:
        """Called once, also when a deliver was cancelled half-way."""
        self._disconnect()

    async def _send(self, body: bytes) -> str:
        if self._streams is None:
            host = self._config.get("host", "127.0.0.1")
            self._streams = await asyncio.open_connection(host, self._config["port"])
        reader, writer = self._streams
        writer.write(body.replace(b"\n", b" ") + b"\n")
        await writer.drain()
        return (await reader.readline()).decode(errors="replace").strip()

    def _disconnect(self) -> None:
        if self._streams is not None:
            with contextlib.suppress(OSError):
                self._streams[1].close()
        self._streams = None
