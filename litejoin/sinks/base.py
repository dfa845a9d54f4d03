"""The contract between sinks and delivery, and what both see of the results log.

Delivery reads the results log with one cursor a sink and hands results over in log order. A sink
sees one result of a key at a time: the next result of that key comes only after the outcome of the
one before. A sink keeps nothing of its own; what is not delivered is delivery's to remember. (A
batch sink that stores its own position, as sqlite does, says so with `position`.)

    method         when                                            failing means
    open           once, before the first result                   SinkError: refuses the start
    deliver        per result, up to max_in_flight at once         an Outcome; never raises
    deliver_batch  batch sinks: per batch, in log order, one       a list of Outcomes; never raises
    close          once, after the last outcome or cancellation    never raises; has 3 s
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from litejoin.records import Result

Status = Literal["delivered", "retry", "reject", "stop"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one result.

    `delivered`: the receiver has it. `retry`: it may take it later (`retry_after_s`: if it said
    when). `reject`: it never will; the result is parked in the dead-letter queue and not retried
    by itself. `stop`: the receiver wants no more of anything; the result is parked and the sink is
    stopped until a restart or `dlq retry`.
    """

    status: Status
    error: str = ""
    retry_after_s: float | None = None
    uncertain: bool = False
    """retry: the receiver may have taken it (a timeout, a cut answer), so nothing older of its key
    may be sent any more."""
    again_from: int | None = None
    """retry, of a batch: the destination has lost what it had after this position (its file or a
    table is gone), or has never said how far it is: delivery begins there again, unless it is not
    so far yet."""


DELIVERED = Outcome("delivered")


class Sink(Protocol):
    """A destination. All methods run on the event loop and must not block it."""

    name: str
    max_in_flight: int
    """How many `deliver` calls delivery may have open at once (never two of one key)."""

    async def open(self) -> None:
        """Called once before the first deliver. Raises SinkError if the sink can never work as
        configured; a destination that is merely down is not an error here.
        """
        ...

    async def deliver(self, result: Result) -> Outcome:
        """Send one result. Never raises for a fault of the receiver: that is an Outcome."""
        ...

    async def close(self) -> None:
        """Called once after the last deliver returned or was cancelled. Frees everything."""
        ...


@runtime_checkable
class BatchSink(Sink, Protocol):
    """A sink that takes results in log order, several at a time, one batch in flight.

    `deliver` is then used only to send a parked result again (nothing newer of its key was
    delivered).
    """

    max_batch: int
    """Most results of one `deliver_batch` call."""

    def position(self, epoch: str) -> int | None:
        """After `open`: the log position the sink itself has stored for an epoch (0: none), so
        that delivery starts no later than there. None: the sink stores none.
        """
        ...

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        """Take a batch; one outcome a result. When the first outcome that is not `delivered` or
        `reject` is `retry`, delivery offers the results from there on again, so order is kept.
        """
        ...


@runtime_checkable
class AskedSink(Protocol):
    """A batch sink whose destination is elsewhere, and says how far it is."""

    async def ask(self, pipeline: str) -> Outcome:
        """Once after the start: make the destination ready for a pipeline and epoch. `retry` with
        `again_from`: it has what is in the log up to there; anything else: it is away, or has
        nothing to say. The first batch finds out then.
        """
        ...


@runtime_checkable
class LateSink(Protocol):
    """A batch sink that tells a repetition by its position in the log, and so has to know when
    older results are none.
    """

    def expect(self, late: Collection[str]) -> None:
        """After `open`, before the first batch: the joins that were added to the sink and whose
        results come from the first on, although it has later ones of other joins.
        """
        ...


class LogReader(Protocol):
    """Reads the results log. One thread at a time; every method is a short blocking read.

    Positions rise and never repeat. At or below `tail` the log keeps only entries that are the
    current result of their key, so reading from 0 always gives every current result.
    """

    pipeline: str
    """Pipeline name and epoch, as in `Result.pipeline`."""

    epoch: str
    """Epoch of the data directory: another epoch is another history."""

    def head(self) -> int:
        """The last position given out; 0 when there is none."""
        ...

    def tail(self) -> int:
        """Every result after this position is still in the log."""
        ...

    def lost(self) -> Sequence[tuple[int, int]]:
        """Positions (after, upto) whose results a restore could not bring back: who has seen one
        cannot go on from there.
        """
        ...

    def read(
        self,
        after: int,
        limit: int,
        queries: Collection[str] | None = None,
        upto: int | None = None,
    ) -> tuple[list[Result], int]:
        """Up to `limit` results with `after` < pos <= `upto` (default: head) of the named joins
        (default: all), in log order, and the position that is covered by them. Large results are
        fewer than `limit`, at least one, however many follow.
        """
        ...

    def count(self, after: int, queries: Collection[str]) -> int:
        """How many results of the named joins follow a position."""
        ...

    def positions(
        self,
        queries: Collection[str] | None = None,
        keys: Collection[str] | None = None,
        *,
        limit: int,
        emitted_ms: tuple[int | None, int | None] = (None, None),
    ) -> tuple[Sequence[int], int]:
        """Positions of the current results in rising order, at most `limit`, and the head they are
        consistent with. `keys` are JSON texts; `emitted_ms` bounds the emit time, both ends
        included.
        """
        ...

    def fetch(self, positions: Sequence[int]) -> tuple[list[Result], int]:
        """The results at the first of some rising positions, and how many positions that covers, at
        least one; those trimmed meanwhile are left out. Large results are few.
        """
        ...

    def clone(self) -> "LogReader":
        """Another reader of the same log, for another thread."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class LogSignal(Protocol):
    """Says when the log has grown. Lives on the event loop."""

    @property
    def head(self) -> int:
        """The last position announced."""
        ...

    async def wait(self, after: int) -> int:
        """Return the head as soon as it is greater than `after`."""
        ...
