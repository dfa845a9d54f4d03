"""The contract between sources and the runtime.

A source turns something outside into row batches (`litejoin.records`) and hands them to an
`Intake`. It knows nothing of shards, joins or sinks. Acks go back as the result of `submit`.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol


class Intake(Protocol):
    """Where a source puts its rows. Lives on the event loop; nothing here blocks it."""

    def topic_number(self, name: str) -> int:
        """The catalogue number of a topic, creating the topic where the config allows any name.

        Raises BadRowError when the topic is not known and may not be created.
        """
        ...

    def submit(self, batch: bytes, rows: int, *, piecewise: bool = False) -> Awaitable[None]:
        """Queue a row batch; the awaitable ends when every row is durable in its shard.

        Raises OverloadedError at once, before anything is queued, when the channel is full. The
        awaitable raises StorageFullError when the disk is full (nothing is promised about the rows
        then), ShardQuarantinedError when a row's shard is out of service (nothing was stored, or
        with `piecewise` the rows of the other shards were) and CancelledError when the process
        stops first.
        """
        ...

    async def room(self) -> None:
        """Wait until the channel takes rows again (for polls, which wait instead of failing)."""
        ...


class PushIntake(Intake, Protocol):
    """An intake of rows that name their topics themselves."""

    def topic_numbers(self, names: Sequence[str]) -> list[int]:
        """`topic_number` of each. Raises BadRowError when one of them may not be created, with its
        place as `row`; then none is: a request that is refused leaves no topics behind.
        """
        ...


class SourceState(Protocol):
    """The durable diff state of one api source: key -> (16-byte hash, stored record or b"")."""

    number: int
    """Catalogue number of the source: the `table` of its STATE_UPSERT and STATE_DELETE rows."""

    async def hashes(self) -> Sequence[tuple[bytes, bytes]]:
        """All (key, hash) pairs. Runs off the event loop.

        Read when the source starts, and again after a submit whose outcome is not known.
        """
        ...

    async def payloads(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The stored records of some keys (diff mode), in the order asked, off the event loop."""
        ...

    def is_new(self) -> bool:
        """True when this source has never completed a poll (decides `initial_snapshot`)."""
        ...

    async def parents(self, topic: str) -> Sequence[bytes]:
        """The payloads of a topic, for `for_each`; empty when there is no such topic yet."""
        ...

    async def mark_started(self) -> None:
        """Remember durably that the first poll was taken in, after its last row is durable."""
        ...


class Source(Protocol):
    """A running source. `run` works until cancelled; faults of the outside world never raise."""

    name: str

    async def run(self) -> None:
        """Deliver records until cancelled."""
        ...

    def health(self) -> dict[str, object]:
        """For /health: at least `status` ("ok" or "degraded") and, when degraded, `reason`."""
        ...
