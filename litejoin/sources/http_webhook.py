"""Http sources in webhook mode: any JSON body posted to `/ingest/{topic}` becomes rows.

An object is one row; an array, or a body of lines, is one row an element. `key_path` finds the key
of each; the payload is the element's own bytes. Webhooks come one or few at a time, so rows are
packed in Python.
"""

from collections.abc import Iterator
from functools import partial

from litejoin._ext.gjson import compile_path, key_of, split
from litejoin._ext.ingest import JSON_REASONS, check_json
from litejoin.clock import Clock
from litejoin.errors import BadRowError, ConfigError, JsonError, RequestError
from litejoin.plan.nodes import HttpSourcePlan, ServerLimits
from litejoin.records import Row, RowKind, pack_rows
from litejoin.signatures import is_recent, is_signed, signing_key
from litejoin.sources.base import Intake
from litejoin.sources.http_keys import AnswerStore, KeyedRequests, MemoryAnswers
from litejoin.sources.http_push import Fields, PushEndpoint, Receive, Scope, Send

ANY_TOPIC = "{topic}"
"""The last part of the path where a source takes every topic."""

WHITE = b" \t\r\n"
"""What JSON allows around a value."""


class WebhookSource(PushEndpoint):
    """One http source with `webhook`. Raises ConfigError for a secret that can never be used."""

    def __init__(
        self,
        plan: HttpSourcePlan,
        intake: Intake,
        limits: ServerLimits,
        clock: Clock,
        answers: AnswerStore | None = None,
    ) -> None:
        super().__init__(plan.name, intake, limits, clock)
        assert plan.webhook is not None
        self._paths = [compile_path(path) for path in plan.webhook.key_path]
        self._keys = [_key(plan.name, secret) for secret in plan.webhook.secrets]
        self._answers = answers or MemoryAnswers(clock)
        self._keyed: dict[str, KeyedRequests] = {}
        """By topic, those with running requests: a sender may post one event, with one id, to
        several topics.
        """
        self.paths = [f"/ingest/{topic}" for topic in plan.topics or (ANY_TOPIC,)]
        """What the listener must route here."""

    @property
    def signed(self) -> bool:
        """Whether requests prove who sends them; then no token is asked for."""
        return bool(self._keys)

    async def ingest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /ingest/{topic}`. Raises as `HttpSource.ingest` does."""
        topic = scope["path"].rpartition("/")[2]
        check = self._check_signature if self._keys else None
        await self.answer(scope, receive, send, partial(self._once, topic), check)

    def _check_signature(self, fields: Fields, body: bytes) -> None:
        """Raises RequestError 401 unless the body is signed with a secret, and lately."""
        names = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
        missing = [name.decode() for name in names if not fields.get(name)]
        if missing:
            raise _unsigned(f"the header {missing[0]} is missing")
        message_id, sent_s, signatures = (fields[name] for name in names)
        if not is_signed(self._keys, message_id, sent_s, body, signatures):
            raise _unsigned("no signature fits the body and the secret")
        if not is_recent(sent_s, self.clock.now_ms()):
            raise _unsigned("webhook-timestamp is more than 5 minutes from now")

    async def _once(self, topic: str, fields: Fields, body: bytes, lines: bool) -> int:
        key = fields.get(b"idempotency-key", fields.get(b"webhook-id"))
        submit = partial(self.submit, size=len(body))
        if key is None:
            batch, rows = self._rows(topic, body, lines)
            await submit(batch, rows, rows)
            return rows
        keyed = self._keyed.get(topic)
        if keyed is None:
            keyed = self._keyed[topic] = KeyedRequests(f"{self.name}/{topic}", self._answers)
        try:
            return await keyed.once(key, body, lambda: self._rows(topic, body, lines), submit)
        finally:
            # Answers are kept elsewhere; a sender may go through endless names that are refused.
            if not keyed.running:
                self._keyed.pop(topic, None)

    def _rows(self, topic: str, body: bytes, lines: bool) -> tuple[bytes, int]:
        """The row batch of a body, and its rows. Raises BadRowError."""
        values = list(self._lines(body) if lines else self._elements(body))
        keys = [self._key_of(at, value) for at, value in enumerate(values)]
        # Only now: a request that is refused creates no topic.
        number, now_ms = self.intake.topic_number(topic), self.clock.now_ms()
        rows = [
            Row(number, RowKind.UPSERT, now_ms, key, value)
            for key, value in zip(keys, values, strict=True)
        ]
        return pack_rows(rows), len(rows)

    def _elements(self, body: bytes) -> Iterator[bytes]:
        """The elements of an array, or the one value that the body is. Raises BadRowError."""
        is_array = body.lstrip(WHITE).startswith(b"[")
        self._check_json(body, self.limits.max_depth + is_array, None)
        if not is_array:
            yield body.strip(WHITE)
            return
        parts = split(body, self.limits.max_depth + 1)
        self._check_count(len(parts))
        for start, end in parts:
            yield body[start:end]

    def _lines(self, body: bytes) -> Iterator[bytes]:
        """Lines that are not blank. Raises BadRowError."""
        values = [line.strip(WHITE) for line in body.split(b"\n") if line.strip(WHITE)]
        self._check_count(len(values))
        for at, value in enumerate(values):
            self._check_json(value, self.limits.max_depth, at)
            yield value

    def _check_json(self, text: bytes, max_depth: int, row: int | None) -> None:
        fault = check_json(text, max_depth)
        if fault is not None:
            what = f"{JSON_REASONS[fault[0]]} at byte {fault[1]}"
            raise BadRowError(what if row is None else f"row {row}: {what}", row=row)

    def _check_count(self, rows: int) -> None:
        if rows > self.limits.max_rows:
            raise BadRowError(f"more than {self.limits.max_rows} rows in one request")

    def _key_of(self, at: int, value: bytes) -> bytes:
        """The key of one element. Raises BadRowError when there is none or the row is too large."""
        limits = self.limits
        try:
            key = key_of(value, self._paths)
        except JsonError as error:
            raise BadRowError(f"row {at}: {error}", row=at) from None
        if len(key) > limits.max_key_bytes:
            raise BadRowError(f"row {at}: key over {limits.max_key_bytes} bytes", row=at)
        if len(key) + len(value) > limits.max_row_bytes:
            raise BadRowError(f"row {at}: row over {limits.max_row_bytes} bytes", row=at)
        return key


def _key(source: str, secret: str) -> bytes:
    try:
        return signing_key(secret)
    except ValueError as error:
        raise ConfigError(
            f"source {source}: {error}", hint="copy the secret anew, or write it without the prefix"
        ) from None


def _unsigned(reason: str) -> RequestError:
    return RequestError(
        reason, status=401, hint="sign requests as Standard Webhooks says, with the source's secret"
    )
