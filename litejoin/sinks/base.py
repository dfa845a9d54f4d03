"""The contract between sinks and delivery.

Delivery reads the results log with one cursor a sink and hands results over in log order. A sink
sees one result of a key at a time: the next result of that key comes only after the outcome of the
one before. A sink keeps nothing of its own; what is not delivered is delivery's to remember.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from litejoin.records import Result


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one result.

    `delivered`: the receiver has it. `retry`: it may take it later (`retry_after_s` if it said
    when). `reject`: it never will; the result is parked in the dead-letter queue and not retried by
    itself.
    """

    status: Literal["delivered", "retry", "reject"]
    error: str = ""
    retry_after_s: float | None = None


DELIVERED = Outcome("delivered")


class Sink(Protocol):
    """A destination. All methods run on the event loop and must not block it."""

    name: str
    max_in_flight: int
    """How many `deliver` calls delivery may have open at once (never two of one key)."""

    async def open(self) -> None:
        """Called once before the first deliver.

        Raises SinkError if the sink can never work as configured; a destination that is merely down
        is not an error here.
        """
        ...

    async def deliver(self, result: Result) -> Outcome:
        """Send one result. Never raises for a fault of the receiver: that is an Outcome."""
        ...

    async def close(self) -> None:
        """Called once after the last deliver returned or was cancelled. Frees everything."""
        ...
