"""What a poll tells the API that it has already: a time, a cursor, or the validators of a body.

Asked by `walk` before the first request of each target and told of each page; `commit` after the
last row of a complete walk is durable. Owns when everything is fetched in spite of the watermark
(full sweeps). Each target of `for_each` has a value of its own, so that a new parent is asked for
everything it has. Nothing advances half way: a walk that fails is asked for again.
"""

from typing import Any

from litejoin.clock import Clock
from litejoin.errors import PollError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.sources.api.document import Document
from litejoin.sources.api.notes import Notes, fingerprint
from litejoin.sources.api.request import Draft
from litejoin.sources.api.times import EARLIEST_MS, MS_NS, format_time, parse_time
from litejoin.sources.api.transport import Response
from litejoin.sources.api.words import printable

NOTE = "watermark"
MAX_VALIDATOR_CHARS = 1000
"""A longer one costs more than the answers that it saves."""


class Watermark:
    """The watermark of one source. One walk at a time: `start`, for each target `apply` and `see`
    each page, `commit`.
    """

    def __init__(self, plan: ApiSourcePlan, notes: Notes, clock: Clock) -> None:
        self._plan = plan.watermark
        self._source = plan
        self._notes = notes
        self._clock = clock
        self._fingerprint = fingerprint(
            plan.url, sorted(plan.params.items()), plan.body, plan.response_path, plan.key_path,
            plan.watermark.strategy, plan.watermark.path, plan.watermark.format, plan.for_each,
        )  # fmt: skip
        self._note: dict[str, Any] | None = None
        self._validators: dict[str, str] = {}
        self._target = ""
        self._seen: dict[str, tuple[str, int] | None] = {}
        """Of each target of the walk: the newest value, and as nanoseconds if it is a time."""
        self.full = True
        """The running walk asks for everything."""

    async def start(self) -> None:
        """A walk begins: decide what it asks for."""
        if self._note is None:
            none = self._plan.strategy == "none"
            self._note = {} if none else await self._notes.get(NOTE, self._fingerprint)
        self._validators, self._seen = {}, {}
        self.full = not self._plan.filters or not self._note.get("values") or self._is_sweep_due()

    def _is_sweep_due(self) -> bool:
        assert self._note is not None
        sweep_ms, swept_ms = self._plan.sweep_ms, self._note.get("swept_ms")
        if sweep_ms is None:
            return False
        if swept_ms is None:
            return True
        # A wall clock that went back must not put the next sweep off for good.
        return not 0 <= self._clock.now_ms() - int(swept_ms) < sweep_ms

    def apply(self, draft: Draft, target: str = "") -> Draft:
        """The pages of this target come next: its request with what filters the answer in it."""
        plan = self._plan
        if not plan.filters:
            return draft
        self._target = fingerprint(target)[:16] if target else ""
        self._seen[self._target] = None
        value = self._value()
        if value is None:
            return draft
        if plan.header:
            return draft.with_value("header", plan.header, value)
        return draft.with_value("query", plan.param, value, plan.body_path)

    def _value(self) -> str | None:
        text, plan = self._before(self._target), self._plan
        if self.full or text is None:
            return plan.initial
        if plan.strategy == "timestamp" and plan.lookback_ms:
            back_ms = parse_time(text, plan.format) // MS_NS - plan.lookback_ms
            return format_time(max(back_ms, EARLIEST_MS), plan.format)
        return text

    def _before(self, target: str) -> str | None:
        assert self._note is not None
        values: dict[str, str] = self._note.get("values", {})
        return values.get(target)

    def condition(self, draft: Draft) -> Draft:
        """The first request with the validators of the last answer, for `etag`."""
        if not self.asked_conditionally:
            return draft
        assert self._note is not None
        headers = dict(draft.headers)
        for name, header in (("etag", "If-None-Match"), ("modified", "If-Modified-Since")):
            text = str(self._note.get(name, ""))
            if is_validator(text):  # an older version kept those that are none
                headers[header] = text
        return Draft(draft.method, draft.url, headers, draft.body, draft.params, draft.fields)

    @property
    def asked_conditionally(self) -> bool:
        """The first request carries validators: a 304 is an answer to it."""
        return self._plan.strategy == "etag" and bool(self._note)

    async def doubt(self) -> None:
        """Rows of another body are about to be stored: the validators do not stand for them, should
        the walk break off.
        """
        if self._plan.strategy == "etag" and self._note:
            await self._notes.put(NOTE, self._fingerprint, {})
            self._note = {}

    def see(self, answer: Response) -> None:
        """One page came. Raises PollError for a time that cannot be read."""
        plan = self._plan
        if plan.strategy == "cursor":
            token = Document(answer.body, judged=True).token(plan.path)
            if token is not None:
                self._seen[self._target] = (str(token), 0)
        elif plan.strategy == "timestamp":
            for value in Document(answer.body, judged=True).fields(
                self._source.response_path, plan.path
            ):
                self._take(value)
        elif plan.strategy == "etag":
            names = (("etag", "etag"), ("modified", "last-modified"))
            found = {name: answer.headers[head] for name, head in names if head in answer.headers}
            self._validators = {name: text for name, text in found.items() if is_validator(text)}

    def _take(self, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, (dict, list, bool)):
            raise PollError(f"{self._plan.path} is no time: {printable(str(value))[:60]}")
        at_ns = parse_time(value, self._plan.format)
        seen = self._seen[self._target]
        if seen is None or at_ns > seen[1]:
            self._seen[self._target] = (str(value), at_ns)

    async def commit(self, *, single: bool) -> None:
        """Every row of a complete walk is durable. `single`: its one body is all there is, and
        nothing of it waits for another look: only then may a 304 stand for it.
        """
        assert self._note is not None
        if self._plan.strategy == "none":
            return
        if self._plan.strategy == "etag":
            note: dict[str, Any] = dict(self._validators) if single else {}
        else:
            note = self._advanced()
        if note != self._note:
            await self._notes.put(NOTE, self._fingerprint, note)
            self._note = note

    def _advanced(self) -> dict[str, Any]:
        assert self._note is not None
        newest = {target: self._newest(target, seen) for target, seen in self._seen.items()}
        values = {target: text for target, text in newest.items() if text is not None}
        note = {**self._note, "values": values}
        if self.full and self._plan.sweep_ms is not None:
            note["swept_ms"] = self._clock.now_ms()
        return note

    def _newest(self, target: str, seen: tuple[str, int] | None) -> str | None:
        """A time never goes back: with a lookback a quiet poll may show older records only."""
        before = self._before(target)
        if seen is None:
            return before
        if self._plan.strategy == "timestamp" and before is not None:
            return before if seen[1] < parse_time(before, self._plan.format) else seen[0]
        return seen[0]


def is_validator(text: str) -> bool:
    """Can it be sent back? One that cannot would fail every poll to come."""
    return 0 < len(text) < MAX_VALIDATOR_CHARS and text.isprintable() and text.isascii()
