"""Reads that take long, on threads of their own: snapshots, replays.

`storage.reader_pool_size` threads at most, each with a connection that is opened when it is first
needed. Made and closed by the hub.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from litejoin.errors import QueryError
from litejoin.sinks.base import LogReader

T = TypeVar("T")


class Readers:
    """A pool of readers of one log."""

    def __init__(self, pattern: LogReader, count: int) -> None:
        """`pattern` is cloned for each thread and stays its owner's."""
        self._pattern = pattern
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="lj-snapshot")
        self._own = threading.local()
        self._all: list[LogReader] = []

    async def run(self, read: Callable[[LogReader], T]) -> T:
        """What `read` returns. Raises QueryError when the log cannot be read."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._call, read)
        except apsw.Error as error:
            raise QueryError(f"the results cannot be read: {error}") from error

    def _call(self, read: Callable[[LogReader], T]) -> T:
        reader: LogReader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = self._pattern.clone()
            self._all.append(reader)
        return read(reader)

    async def close(self) -> None:
        """Wait for reads that are under way, then close: an open connection would keep the -wal
        file.
        """
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for reader in self._all:
            reader.close()
