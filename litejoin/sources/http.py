"""The http source: `POST /ingest` takes rows in and answers when they are durable.

From body bytes straight to the native scanner: no Python object per row. Sources in webhook mode
are in `http_webhook`.
"""

from collections.abc import Sequence
from functools import partial

from litejoin._ext.ingest import RowScanner
from litejoin.clock import Clock
from litejoin.errors import BadRowError
from litejoin.plan.nodes import HttpSourcePlan, ServerLimits
from litejoin.sources.base import PushIntake
from litejoin.sources.http_keys import AnswerStore, KeyedRequests, MemoryAnswers
from litejoin.sources.http_push import Fields, PushEndpoint, Receive, Scope, Send


class HttpSource(PushEndpoint):
    """All http sources of one address: what one lists as its topics, `POST /ingest` takes."""

    def __init__(
        self,
        plans: Sequence[HttpSourcePlan],
        intake: PushIntake,
        limits: ServerLimits,
        clock: Clock,
        answers: AnswerStore | None = None,
    ) -> None:
        super().__init__(", ".join(plan.name for plan in plans), intake, limits, clock)
        self._scanner = RowScanner(
            max_rows=limits.max_rows,
            max_depth=limits.max_depth,
            max_key_bytes=limits.max_key_bytes,
            max_row_bytes=limits.max_row_bytes,
        )
        self._topic_numbers = intake.topic_numbers
        self._any_topic = any(not plan.topics for plan in plans)
        self._topics = dict.fromkeys(topic for plan in plans for topic in plan.topics)
        for topic in self._topics:
            self._scanner.add_topic(topic, intake.topic_number(topic))
        self._keyed = KeyedRequests(self.name, answers or MemoryAnswers(clock))

    async def ingest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /ingest`. Raises BadRowError, RequestError, OverloadedError, StorageError."""
        await self.answer(scope, receive, send, self._once)

    async def _once(self, fields: Fields, body: bytes, lines: bool) -> int:
        key = fields.get(b"idempotency-key")
        if key is None:
            batch, rows = self._rows(body, lines)
            await self.submit(batch, rows, rows, len(body))
            return rows
        submit = partial(self.submit, size=len(body))
        return await self._keyed.once(key, body, lambda: self._rows(body, lines), submit)

    def _rows(self, body: bytes, lines: bool) -> tuple[bytes, int]:
        """The row batch of a body, and its rows. Raises BadRowError."""
        now_ms = self.clock.now_ms()
        batch, rows, unknown = self._scanner.scan(body, now_ms, lines)
        if unknown is not None:
            self._add_topics(unknown)
            batch, rows, _ = self._scanner.scan(body, now_ms, lines)
        return batch, rows

    def _add_topics(self, unknown: dict[str, int]) -> None:
        """Learn the numbers of topics seen for the first time, each with the row that names it.

        Raises BadRowError before any is created when one of them is not taken here.
        """
        if not self._any_topic:
            topic, row = next(iter(unknown.items()))
            message = f'row {row}: topic "{topic}" is not taken here'
            raise BadRowError(message, row=row, hint=f"topics: {', '.join(self._topics)}")
        topics = list(unknown)
        try:
            numbers = self._topic_numbers(topics)
        except BadRowError as error:
            row = unknown[topics[error.row or 0]]
            raise BadRowError(f"row {row}: {error}", row=row, hint=error.hint) from error
        for topic, number in zip(topics, numbers, strict=True):
            self._scanner.add_topic(topic, number)


def by_address(plans: Sequence[HttpSourcePlan]) -> list[list[HttpSourcePlan]]:
    """The http sources that share an address, so that one HttpSource serves them."""
    groups: dict[tuple[str, int], list[HttpSourcePlan]] = {}
    for plan in plans:
        groups.setdefault((plan.addr.host, plan.addr.port), []).append(plan)
    return list(groups.values())
