"""Runs a window's query without the messages that it cannot be run over.

One message that is no JSON would take the results of a whole window with it. Where a query fails
over a span, the messages over which it fails alone are looked for, by halves of the span, and it is
run again without them; each is told of once. A query that fails for another reason, such as a sum
that overflows, stays failed. Called by windows, on the engine's thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from litejoin.clock import Clock
from litejoin.engine.windows.query import DEADLINE_MS, SpanQuery, Value
from litejoin.engine.windows.spans import Span
from litejoin.errors import QueryError

MAX_KNOWN = 100_000
"""Messages that are known to be left out, a window. Where there are more, its query fails."""

ALL = range(2**62)

LeavesOut = Callable[[int], bool]
Fails = Callable[[Span, range], str | None]
"""Why the query fails over the messages of a span with these numbers; None: it does not."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A message that the query cannot be run over."""

    time_ms: int
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The same, to be told of."""

    key: str
    payload: str
    time_ms: int
    reason: str


def is_of_a_message(error: BaseException | None) -> bool:
    """True when a value can be the cause: not a deadline, a disk, memory."""
    return isinstance(error, (apsw.SQLError, apsw.TooBigError))


def find_faults(span: Span, fails: Fails, numbers: Callable[[Span], Sequence[int]]) -> list[Fault]:
    """The messages of a span over which a query fails alone. `numbers`: those of a span, rising."""
    if fails(Span(span.start_ms, span.start_ms), ALL) is not None:
        return []
    found: list[Fault] = []
    parts = [span]
    while parts:
        part = parts.pop()
        if fails(part, ALL) is None:
            continue
        if part.end_ms - part.start_ms == 1:
            found += find_by_number(part, fails, numbers(part))
            continue
        middle_ms = (part.start_ms + part.end_ms) // 2
        parts += [Span(middle_ms, part.end_ms), Span(part.start_ms, middle_ms)]
    return found


def find_by_number(span: Span, fails: Fails, numbers: Sequence[int]) -> list[Fault]:
    """The same by halves of the numbers instead of the time; `time_ms` is that of the span."""
    found: list[Fault] = []
    parts = [(0, len(numbers))] if numbers else []
    while parts:
        first, after = parts.pop()
        reason = fails(span, range(numbers[first], numbers[after - 1] + 1))
        if reason is None:
            continue
        if after - first == 1:
            found.append(Fault(span.start_ms, numbers[first], reason))
            continue
        middle = (first + after) // 2
        parts += [(middle, after), (first, middle)]
    return found


class CarefulQuery:
    """See `SpanQuery`, of which it is one over all messages and, where needed, one over most."""

    def __init__(self, open_query: Callable[[LeavesOut | None], SpanQuery], clock: Clock) -> None:
        self._open, self._clock = open_query, clock
        self._plain = open_query(None)
        self._careful: SpanQuery | None = None
        self._known: dict[int, int] = {}
        """Number -> time."""
        self._looked_at = ALL
        self._told: list[LeftOut] = []
        self.partitions, self.numbers = self._plain.partitions, self._plain.numbers

    def rows(self, span: Span, partition: Value) -> list[tuple[Value, ...]]:
        """The query's rows over the messages of a span. Raises QueryError."""
        try:
            return self._plain.rows(span, partition)
        except QueryError as error:
            if not is_of_a_message(error.__cause__):
                raise
        if self._careful is None:
            self._careful = self._open(self._leaves_out)
        if self._known:
            try:
                return self._careful.rows(span, partition)
            except QueryError as error:
                if not is_of_a_message(error.__cause__):
                    raise
        self._find(self._careful, span, partition)
        return self._careful.rows(span, partition)

    def _leaves_out(self, number: int) -> bool:
        return number in self._known or number not in self._looked_at

    def _find(self, careful: SpanQuery, span: Span, partition: Value) -> None:
        def fails(part: Span, numbers: range) -> str | None:
            self._looked_at = numbers
            try:
                careful.rows(part, partition)
            except QueryError as error:
                if not is_of_a_message(error.__cause__):
                    raise
                return str(error)
            finally:
                self._looked_at = ALL
            return None

        for fault in find_faults(span, self.in_time(fails), careful.numbers):
            if not self.note(fault, *careful.message(fault.time_ms, fault.number)):
                raise QueryError(f"it fails for more than {MAX_KNOWN} messages")

    def in_time(self, fails: Fails) -> Fails:
        """The same for as long as one query may take; then it raises QueryError."""
        deadline_ms = self._clock.monotonic_ms() + DEADLINE_MS

        def until(part: Span, numbers: range) -> str | None:
            if self._clock.monotonic_ms() > deadline_ms:
                raise QueryError("it took too long to find the messages for which it fails")
            return fails(part, numbers)

        return until

    def note(self, fault: Fault, key: str, payload: str) -> bool:
        """Leave a message out from now on, and tell of it; False when there are too many."""
        if len(self._known) >= MAX_KNOWN:
            return False
        if fault.number not in self._known:
            self._known[fault.number] = fault.time_ms
            self._told.append(LeftOut(key, payload, fault.time_ms, fault.reason))
        return True

    def take_told(self) -> list[LeftOut]:
        """The messages left out since the last call."""
        told, self._told = self._told, []
        return told

    def forget(self, before_ms: int) -> None:
        """Messages before a time are needed no more."""
        gone = [number for number, time_ms in self._known.items() if time_ms < before_ms]
        for number in gone:
            del self._known[number]

    def rolled_back(self) -> None:
        """The caller's transaction is undone, and what was told in it."""
        self._known.clear()
        self._told.clear()

    def close(self) -> None:
        """Close the connections."""
        self._plain.close()
        if self._careful is not None:
            self._careful.close()
