"""A stream of messages and its windows from scratch: the oracle of late, updated and idle windows.

Unlike `tests.reference.windows`, which lists what fires, this one keeps the *view*: the last result
of each window, key and start, as a receiver has it that takes deletes into account. Plain lists,
plain SQL, and time as three numbers that the test moves.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import apsw

from litejoin.plan.nodes import WindowPlan

NEVER = -(2**60)
GRACE_MS = 100

View = dict[tuple[str, int], tuple[int, list[Any]]]
"""(key as JSON, start) -> (end, rows)."""


@dataclass(frozen=True)
class Message:
    """One message as the stream sees it; `time_ms` is what its window goes by."""

    time_ms: int
    payload: str
    partitions: dict[str, Any] | None
    """None: the payload is no JSON, and windows by partition leave it out."""

    def is_for(self, plan: WindowPlan) -> bool:
        return plan.partition_by is None or self.partitions is not None

    def partition(self, plan: WindowPlan) -> Any:
        if plan.partition_by is None or self.partitions is None:
            return None
        return self.partitions[plan.partition_by]


def run(plan: WindowPlan, messages: list[Message]) -> list[dict[str, Any]]:
    """A window's query by a SQLite of its own. Raises apsw.SQLError."""
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE orders(key, payload, timestamp, timestamp_ms)")
    db.executemany(
        "INSERT INTO orders VALUES('k', ?, ?, ?)",
        [(m.payload, m.time_ms // 1000, m.time_ms) for m in messages],
    )
    return [dict(zip(plan.columns, row, strict=True)) for row in db.execute(plan.query)]


def rows_of(plan: WindowPlan, messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The same without the messages over which it fails alone, if it fails."""
    ordered = sorted(messages, key=lambda message: message.time_ms)
    try:
        return run(plan, ordered)
    except apsw.SQLError:
        return run(plan, [message for message in ordered if _is_fine(plan, message)])


def _is_fine(plan: WindowPlan, message: Message) -> bool:
    try:
        run(plan, [message])
    except apsw.SQLError:
        return False
    return True


def keep_ms(plan: WindowPlan) -> int:
    """How long a closed span takes late messages."""
    if plan.on_late != "update":
        return 0
    return (plan.size_ms or plan.gap_ms or 0) + plan.allowed_lateness_ms


@dataclass
class Oracle:
    """What all kinds share: the view, and up to where spans have closed."""

    plan: WindowPlan
    view: View = field(default_factory=dict)
    late: int = 0
    closed_ms: int = NEVER
    fired_ms: int = NEVER
    """The end of the last span that fired."""

    def _show(self, start_ms: int, end_ms: int, partition: Any, messages: list[Message]) -> None:
        """Evaluate a span; keys that it had and has no more are deleted."""
        for key in self._keys.pop((start_ms, json.dumps(partition)), ()):
            self.view.pop((key, start_ms), None)
        groups: dict[str, list[Any]] = {}
        for row in rows_of(self.plan, messages):
            index = self.plan.key_index
            value = partition if index is None else list(row.values())[index]
            groups.setdefault(json.dumps(value), []).append(row)
        for key, rows in groups.items():
            self.view[key, start_ms] = (end_ms, rows)
        self._keys[start_ms, json.dumps(partition)] = set(groups)

    _keys: dict[tuple[int, str], set[str]] = field(default_factory=dict)

    def restart(self, closed_ms: int) -> None:
        """A restart may find less closed than before it, but nothing that fired open."""
        assert self.fired_ms <= closed_ms <= self.closed_ms
        self.closed_ms = closed_ms


@dataclass
class GridOracle(Oracle):
    """Tumbling, sliding, and days of a time zone."""

    spans: dict[tuple[int, int, str], list[Message]] = field(default_factory=dict)
    dirty: set[tuple[int, int, str]] = field(default_factory=set)

    def spans_of(self, time_ms: int) -> Iterator[tuple[int, int]]:
        plan = self.plan
        if plan.timezone is not None:
            starts = day_starts(plan)
            at = bisect_right(starts, time_ms)
            yield starts[at - 1], starts[at]
            return
        size, slide = plan.size_ms or 1, plan.slide_ms or plan.size_ms or 1
        last = time_ms - (time_ms - plan.offset_ms) % slide
        for start in range(last, time_ms - size, -slide):
            yield start, start + size

    def take(self, messages: list[Message]) -> None:
        for message in messages:
            spans = list(self.spans_of(message.time_ms))
            self.late += all(end <= self.closed_ms for _, end in spans)
            for start, end in spans:
                if end > self.closed_ms - keep_ms(self.plan):
                    span = (end, start, json.dumps(message.partition(self.plan)))
                    self.spans.setdefault(span, []).append(message)
                    if self.plan.emit == "update" or end <= self.closed_ms:
                        self.dirty.add(span)

    def fire(self, watermark_ms: int) -> None:
        due = {span for span in self.spans if self.closed_ms < span[0] <= watermark_ms}
        if due:
            self.fired_ms = max(self.fired_ms, *(end for end, _, _ in due))
        if self.plan.emit == "update":
            due = set()
        for end, start, partition in sorted(self.dirty | due):
            messages = self.spans[end, start, partition]
            self._show(start, end, json.loads(partition), messages)
        self.dirty.clear()
        self.closed_ms = max(self.closed_ms, watermark_ms)


_DAYS: dict[tuple[str, int, int], list[int]] = {}


def day_starts(plan: WindowPlan) -> list[int]:
    """Every start of a span of days between 2020 and 2030, by the zone's wall clock."""
    days, zone = (plan.size_ms or 0) // 86_400_000, plan.timezone or "UTC"
    if (zone, days, plan.offset_ms) not in _DAYS:
        first = -(-18262 // days) * days  # 2020-01-01, rounded to a start
        starts = []
        for day in range(first, first + 3660, days):
            local = datetime(1970, 1, 1, tzinfo=ZoneInfo(zone)) + timedelta(days=day)
            starts.append(int((local + timedelta(milliseconds=plan.offset_ms)).timestamp() * 1000))
        _DAYS[zone, days, plan.offset_ms] = starts
    return _DAYS[zone, days, plan.offset_ms]


@dataclass
class Session:
    """Messages of one partition that are no further apart than the gap."""

    partition: Any
    messages: list[Message]
    fired: bool = False
    dirty: bool = True

    @property
    def start_ms(self) -> int:
        return min(message.time_ms for message in self.messages)

    @property
    def last_ms(self) -> int:
        return max(message.time_ms for message in self.messages)


@dataclass
class SessionOracle(Oracle):
    """Sessions; one that starts earlier than before takes its old results back."""

    sessions: list[Session] = field(default_factory=list)

    def take(self, messages: list[Message]) -> None:
        islands: list[Session] = []
        last: dict[str, Session] = {}
        for message in sorted(messages, key=lambda message: message.time_ms):
            partition = message.partition(self.plan)
            island = last.get(json.dumps(partition))
            if island and message.time_ms - island.last_ms <= (self.plan.gap_ms or 0):
                island.messages.append(message)
            else:
                island = last[json.dumps(partition)] = Session(partition, [message])
                islands.append(island)
        for island in islands:
            self._merge(island)

    def _merge(self, island: Session) -> None:
        gap, keep = self.plan.gap_ms or 0, keep_ms(self.plan)
        near = [
            s
            for s in self.sessions
            if s.partition == island.partition
            and s.last_ms >= island.start_ms - gap
            and s.start_ms <= island.last_ms + gap
            and (not s.fired or (keep and s.last_ms > self.closed_ms - gap - keep))
        ]
        if island.last_ms + gap <= self.closed_ms and all(s.fired for s in near):
            self.late += len(island.messages)
            if island.last_ms + gap <= self.closed_ms - keep:
                return
        for session in near:
            self.sessions.remove(session)
            island.messages = session.messages + island.messages
        for session in near:
            if session.start_ms != island.start_ms:
                for key in self._keys.pop((session.start_ms, json.dumps(session.partition)), ()):
                    self.view.pop((key, session.start_ms), None)
        self.sessions.append(island)

    def fire(self, watermark_ms: int) -> None:
        gap = self.plan.gap_ms or 0
        for session in self.sessions:
            is_due = not session.fired and session.last_ms + gap <= watermark_ms
            if is_due or (self.plan.emit == "update" and session.dirty and not session.fired):
                end = session.last_ms + gap
                self._show(session.start_ms, end, session.partition, session.messages)
                session.dirty = False
            if is_due:
                session.fired = True
                self.fired_ms = max(self.fired_ms, session.last_ms + gap)
        self.closed_ms = max(self.closed_ms, watermark_ms)


@dataclass
class StreamOracle:
    """The windows of one time path, and how far time has come for them."""

    windows: list[GridOracle | SessionOracle]
    time_of: Callable[[Any], int | None]
    """A message's time; None: it has none that can be used."""
    event_time: bool
    idle_ms: int
    newest_ms: int = NEVER
    time_ms: int = NEVER
    heard_ms: int | None = None
    refused: int = 0

    def take(self, sent: Iterable[Any], latest_ms: int, monotonic_ms: int) -> None:
        messages = []
        for each in sent:
            time_ms = self.time_of(each)
            if time_ms is None or not 0 <= time_ms <= latest_ms:
                self.refused += 1
            else:
                messages.append(Message(time_ms, each.payload, each.partitions))
        if messages:
            for window in self.windows:
                window.take([message for message in messages if message.is_for(window.plan)])
            self.heard_ms = monotonic_ms
            self.newest_ms = max(self.newest_ms, *(m.time_ms for m in messages))
            if self.event_time:
                self.time_ms = max(self.time_ms, self.newest_ms)

    def fire(self, written_upto_ms: int | None, monotonic_ms: int) -> None:
        if self.heard_ms is None:
            self.heard_ms = monotonic_ms
        if written_upto_ms is not None:
            if not self.event_time:
                self.time_ms = max(self.time_ms, written_upto_ms - GRACE_MS)
            elif monotonic_ms - self.heard_ms >= self.idle_ms:
                self.time_ms = max(self.time_ms, written_upto_ms)
        for window in self.windows:
            window.fire(self.time_ms - window.plan.allowed_lateness_ms)

    def restart(self, closed_ms: dict[str, int], monotonic_ms: int) -> None:
        """`closed_ms`: up to where each window has closed, as it was found."""
        self.heard_ms = None
        self.time_ms = self.newest_ms if self.event_time else NEVER
        for window in self.windows:
            window.restart(closed_ms.get(window.plan.name, NEVER))
        self.fire(None, monotonic_ms)


def received(bodies: list[dict[str, Any]], names: list[str]) -> dict[str, View]:
    """What a receiver holds that applies every result, each later than the one before."""
    views: dict[str, View] = {name: {} for name in names}
    seq: dict[str, int] = {}
    for body in bodies:
        name, window = body["query"], body["window"]
        assert body["seq"] > seq.get(name, 0)
        seq[name] = body["seq"]
        place = (json.dumps(body["key"]), _ms(window["start"]))
        if body["op"] == "delete":
            del views[name][place]
        else:
            views[name][place] = (_ms(window["end"]), body["rows"])
    return views


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
