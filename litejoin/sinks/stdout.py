"""Prints each result as one line of JSON.

Writes on a thread: a pipe that nobody reads blocks that thread, not the event loop.
"""

import sys
from collections.abc import Sequence
from typing import BinaryIO

from litejoin.plan.nodes import StdoutSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.workers import Workers


class StdoutSink:
    """A stream of JSON lines; `stream` is the process's standard output, or a test's."""

    max_in_flight = 1
    max_batch = 256

    def __init__(self, plan: StdoutSinkPlan, stream: BinaryIO | None = None) -> None:
        self.name = plan.name
        self._stream = stream or sys.stdout.buffer
        self._workers: Workers[None, bytes, None] | None = None

    async def open(self) -> None:
        """Never fails."""
        self._workers = Workers(
            f"lj-sink-{self.name}", 1, lambda: None, lambda _, lines: self._write(lines)
        )

    def position(self, epoch: str) -> int | None:
        """Nothing is stored here."""
        return None

    async def deliver(self, result: Result) -> Outcome:
        """Print one result."""
        return (await self.deliver_batch([result]))[0]

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        """Print results; all or none count as delivered."""
        assert self._workers is not None
        lines = b"".join(result.body().replace(b"\n", b" ") + b"\n" for result in results)
        try:
            await self._workers.submit(lines)
        except (OSError, ValueError) as error:  # a closed pipe, a closed stream
            return [Outcome("retry", f"standard output: {error}")] * len(results)
        return [DELIVERED] * len(results)

    def _write(self, lines: bytes) -> None:
        self._stream.write(lines)
        self._stream.flush()

    async def close(self) -> None:
        """Let the thread go; the stream is not ours to close."""
        if self._workers is not None:
            self._workers.stop()
