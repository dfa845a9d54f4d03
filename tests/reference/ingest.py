"""What _ext/ingest.pyx does with a request body, in plain Python: the same rows or refusal.

`read_body` returns rows with topic names; `Refused` carries the row index, the byte and words
that the native message must contain.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.reference import json_scan

TOPIC = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)
RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))\Z",
    re.ASCII,
)
FIELDS = ("topic", "key", "payload", "timestamp")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_MS = -62_135_596_800_000
MAX_MS = 253_402_300_799_999


class Refused(Exception):
    def __init__(self, row: int | None, offset: int, words: str) -> None:
        super().__init__(row, offset, words)
        self.row = row
        self.offset = offset
        self.words = words


@dataclass(frozen=True)
class Limits:
    max_rows: int = 10_000
    max_depth: int = 64
    max_key_bytes: int = 512
    max_row_bytes: int = 1 << 20


@dataclass(frozen=True)
class Pushed:
    topic: str
    key: bytes
    payload: bytes | None
    timestamp_ms: int


def read_body(body: bytes, now_ms: int, lines: bool, limits: Limits) -> list[Pushed]:
    """All rows of the body. Raises Refused."""
    at = json_scan.skip_space(body, 0)
    if at == len(body):
        raise Refused(None, at, "body is empty")
    reader = Reader(body, now_ms, limits)
    try:
        if lines:
            reader.lines(at)
            return reader.rows
        if body[at] not in b"{[":
            raise Refused(None, at, "must be a row object or an array")
        end = reader.row(at) if body[at] in b"{" else reader.array(at)
    except json_scan.JsonError as error:
        raise Refused(len(reader.rows), error.offset, REASONS[error.code]) from error
    end = json_scan.skip_space(body, end)
    if end < len(body):
        raise Refused(None, end, "data after the end")
    return reader.rows


REASONS = {
    json_scan.END: "ends too early", json_scan.CHAR: "unexpected character",
    json_scan.CONTROL: "raw control character", json_scan.ESCAPE: "invalid escape",
    json_scan.SURROGATE: "lone surrogate", json_scan.UTF8: "invalid UTF-8",
    json_scan.NUMBER: "invalid number", json_scan.DEPTH: "nested too deeply",
}  # fmt: skip


class Reader:
    def __init__(self, body: bytes, now_ms: int, limits: Limits) -> None:
        self.body = body
        self.now_ms = now_ms
        self.limits = limits
        self.rows: list[Pushed] = []

    def refuse(self, offset: int, words: str) -> Refused:
        return Refused(len(self.rows), offset, words)

    def array(self, at: int) -> int:
        at = json_scan.skip_space(self.body, at + 1)
        if at < len(self.body) and self.body[at] in b"]":
            return at + 1
        while True:
            json_scan.need(self.body, at)
            at = json_scan.skip_space(self.body, self.row(at))
            separator = json_scan.need(self.body, at)
            if separator in b"]":
                return at + 1
            if separator not in b",":
                raise json_scan.JsonError(json_scan.CHAR, at)
            at = json_scan.skip_space(self.body, at + 1)

    def lines(self, at: int) -> None:
        while at < len(self.body):
            at = self.row(at)
            while at < len(self.body) and self.body[at] in b" \t\r":
                at += 1
            if at < len(self.body) and self.body[at] not in b"\n":
                raise self.refuse(at, "data after the object on its line")
            at = json_scan.skip_space(self.body, at)

    def row(self, start: int) -> int:
        """Read the row whose brace is at `start`; the offset behind it."""
        if self.body[start] not in b"{":
            raise self.refuse(start, "must be a JSON object")
        if len(self.rows) == self.limits.max_rows:
            raise self.refuse(start, "rows in one request")
        seen: dict[str, int] = {}
        at = json_scan.skip_space(self.body, start + 1)
        if at < len(self.body) and self.body[at] in b"}":
            return self.finish(start, at + 1, seen)
        while True:
            name, behind = json_scan.name(self.body, at)
            if name not in FIELDS:
                raise self.refuse(at, "unknown field")
            if name in seen:
                raise self.refuse(at, "appears twice")
            at = json_scan.skip_space(self.body, behind)
            json_scan.need(self.body, at)
            seen[name] = at
            at = json_scan.skip_space(self.body, self.member(name, at))
            separator = json_scan.need(self.body, at)
            if separator in b"}":
                return self.finish(start, at + 1, seen)
            if separator not in b",":
                raise json_scan.JsonError(json_scan.CHAR, at)
            at = json_scan.skip_space(self.body, at + 1)

    def member(self, name: str, at: int) -> int:
        """Check the value's own rules; the offset behind it."""
        is_text = self.body[at] in b'"'
        if name in ("topic", "key"):
            if not is_text:
                raise self.refuse(at, f"{name} must be a string")
            return json_scan.string(self.body, at)[1]
        end = json_scan.value(self.body, at, self.limits.max_depth)
        if name == "timestamp":
            self.timestamp(at, end)
        return end

    def timestamp(self, at: int, end: int) -> int:
        literal = self.body[at:end]
        if literal == b"null":
            return self.now_ms
        if literal[0] in b'"':
            text = json_scan.string(self.body, at)[0]
            found = rfc3339_ms(text) if end - at - 2 <= 64 else None
            if found is None:
                raise self.refuse(at, "not RFC 3339")
            return found
        if literal[0] not in b"-0123456789":
            raise self.refuse(at, "timestamp must be")
        found = number_ms(literal.decode())
        if found is None:
            raise self.refuse(at, "outside the years")
        return found

    def finish(self, start: int, end: int, seen: dict[str, int]) -> int:
        for name in FIELDS[:3]:
            if name not in seen:
                raise self.refuse(start, f'field "{name}" is missing')
        topic = json_scan.string(self.body, seen["topic"])[0]
        if not TOPIC.match(topic):
            raise self.refuse(seen["topic"], "not a valid name")
        key = self.key(seen["key"])
        payload = self.payload(seen["payload"])
        if len(key) + len(payload or b"") > self.limits.max_row_bytes:
            raise self.refuse(start, "key and payload are larger")
        stamp = self.now_ms
        if "timestamp" in seen:
            at = seen["timestamp"]
            stamp = self.timestamp(at, json_scan.value(self.body, at, self.limits.max_depth))
        self.rows.append(Pushed(topic, key, payload, stamp))
        return end

    def key(self, at: int) -> bytes:
        key = json_scan.string(self.body, at)[0].encode()
        if b"\0" in key:
            raise self.refuse(at, "NUL")
        if not key:
            raise self.refuse(at, "key is empty")
        if len(key) > self.limits.max_key_bytes:
            raise self.refuse(at, "key is longer")
        return key

    def payload(self, at: int) -> bytes | None:
        end = json_scan.value(self.body, at, self.limits.max_depth)
        if self.body[at:end] == b"null":
            return None
        if self.body[at] not in b'"':
            return self.body[at:end]
        text = json_scan.string(self.body, at)[0].encode()
        fault = json_scan.check_json(text, self.limits.max_depth)
        if fault is not None:
            raise self.refuse(at, f"at byte {fault[1]} of the text")
        return text


def number_ms(text: str) -> int | None:
    """Seconds, or milliseconds from 10^11 on, cut to milliseconds; None outside years 1 to 9999."""
    number = Decimal(text)
    if number.adjusted() > 20:
        return None if number else 0
    seconds = abs(number) < 10**11
    cut = int(number * 1000 if seconds and number.adjusted() > -10 else 0 if seconds else number)
    return cut if MIN_MS <= cut <= MAX_MS else None


def rfc3339_ms(text: str) -> int | None:
    found = RFC3339.match(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if second > 60 or int(found[9] or 0) > 23 or int(found[10] or 0) > 59:
        return None
    offset = timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0))
    try:
        moment = datetime(year, month, day, hour, minute, tzinfo=UTC) + timedelta(seconds=second)
        moment += offset if found[8] == "-" else -offset
    except (ValueError, OverflowError):
        return None
    return (moment - EPOCH) // timedelta(milliseconds=1) + int(((found[7] or "") + "000")[:3])
