from collections.abc import Callable, Mapping, Sequence
from typing import final

from litejoin.records import Result

@final
class Producer:
    """Sends results to one Kafka topic. One thread uses it.

    `library` is a loaded shared object that is linked with librdkafka. Raises ImportError when its
    librdkafka is too old, ValueError with librdkafka's words for settings it does not take.
    `on_error(name, text)` hears of connections that fail, inside `send` and `poll`.
    """

    def __new__(
        cls,
        library: str,
        options: Mapping[str, object],
        topic: str,
        *,
        rows_only: bool,
        in_order: bool,
        on_error: Callable[[str, str], object],
    ) -> Producer: ...
    def send(self, results: Sequence[Result], timeout_ms: int) -> list[tuple[int, bool, str]]:
        """Send results in order and wait for all reports, at most so long.

        Returns what failed: index, whether the message itself is at fault, and librdkafka's words.
        With `in_order`, one failure of another kind makes those fail too that wait behind it.
        """

    def poll(self) -> None:
        """Let librdkafka say what it has to say."""

    def fatal(self) -> str | None:
        """Why this producer can send nothing any more."""

    def close(self) -> None:
        """Drop what is queued and end. Idempotent."""
