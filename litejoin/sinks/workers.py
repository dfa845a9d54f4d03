"""Threads for sinks that block: a fixed number, each with state of its own.

Used instead of an executor because its threads are daemons (a receiver that hangs must not keep the
process from ending) and because finished calls are reported in bunches: one wake-up of the event
loop carries every result that is ready.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

S = TypeVar("S")
A = TypeVar("A")
R = TypeVar("R")


class Workers(Generic[S, A, R]):
    """Runs `call(state, argument)` on one of `count` threads. Methods on the event loop only."""

    def __init__(
        self,
        name: str,
        count: int,
        make_state: Callable[[], S],
        call: Callable[[S, A], R],
        end: Callable[[S], None] = lambda _: None,
    ) -> None:
        """`end(state)` is the last thing that a thread does."""
        self._call, self._end = call, end
        self._jobs: SimpleQueue[tuple[asyncio.Future[R], A] | None] = SimpleQueue()
        self._finished: deque[tuple[asyncio.Future[R], R | None, BaseException | None]] = deque()
        self._announced = False
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._count = count
        for n in range(count):
            target, args = self._work, (make_state(),)
            threading.Thread(target=target, args=args, name=f"{name}-{n}", daemon=True).start()

    def submit(self, argument: A) -> "asyncio.Future[R]":
        """Queue a call. A future that is cancelled before its call begins is never called."""
        future: asyncio.Future[R] = self._loop.create_future()
        self._jobs.put((future, argument))
        return future

    def stop(self) -> None:
        """Let the threads end after what is queued. Does not wait."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self, state: S) -> None:
        while (job := self._jobs.get()) is not None:
            future, argument = job
            if future.cancelled():
                continue
            try:
                self._finished.append((future, self._call(state, argument), None))
            except BaseException as error:  # whatever it is, the waiting coroutine must learn of it
                self._finished.append((future, None, error))
            self._announce()
        self._end(state)

    def _announce(self) -> None:
        with self._lock:
            if self._announced:
                return
            self._announced = True
        try:
            self._loop.call_soon_threadsafe(self._report)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _report(self) -> None:
        with self._lock:
            self._announced = False
        while self._finished:
            future, value, error = self._finished.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)  # type: ignore[arg-type]
