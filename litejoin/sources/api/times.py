"""Times as APIs write them: rfc3339, unix, unix_ms or a strftime pattern, and back.

Used by time slices and timestamp watermarks. Times that are compared are nanoseconds, so that an
API's microseconds survive; times that are made are milliseconds.
"""

import re
from datetime import UTC, datetime

from litejoin.errors import PollError
from litejoin.records import rfc3339
from litejoin.sources.api.words import printable

MS_NS = 1_000_000
S_NS = 1_000_000_000
EARLIEST_MS = -62_135_596_800_000
"""The year 1, which APIs say for "never"; what is before it cannot be written."""

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,30}))?\s?([Zz]|[+-]\d\d:?\d\d)?"
)
_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")


def parse_time(value: object, format_: str) -> int:
    """Nanoseconds since 1970 of a value in an answer. Raises PollError when it has another form."""
    text = str(value)
    try:
        if format_ in ("unix", "unix_ms"):
            return _decimal(text) if format_ == "unix" else _decimal(text) // 1000
        if format_ == "rfc3339":
            return _rfc3339(text)
        moment = datetime.strptime(text, format_)  # noqa: DTZ007 - a pattern may have no zone
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _nanoseconds(moment)
    except (ValueError, OverflowError, IndexError):
        raise PollError(f"{printable(text)[:60]!r} is not a time of the format {format_}") from None


def format_time(at_ms: int, format_: str) -> str:
    """A time as a request sends it."""
    if format_ == "unix":
        return str(at_ms // 1000)
    if format_ == "unix_ms":
        return str(at_ms)
    if format_ == "rfc3339":
        text = rfc3339(at_ms)
        return text.replace(".000Z", "Z")
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(format_)


def parse_since(text: str, now_ms: int) -> int:
    """Unix milliseconds of `from`: RFC 3339, a date, or a duration before now."""
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return now_ms - int(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += "T00:00:00Z"
    return parse_time(text, "rfc3339") // MS_NS


def _rfc3339(text: str) -> int:
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        raise ValueError
    zone = (match[4] or "Z").upper().replace("Z", "+00:00")
    moment = datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}")
    return _nanoseconds(moment) + int((match[3] or "0").ljust(9, "0")[:9])


def _nanoseconds(moment: datetime) -> int:
    passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * 86_400 + passed.seconds) * S_NS + passed.microseconds * 1000


def _decimal(text: str) -> int:
    """Seconds as a decimal number -> nanoseconds, exactly."""
    match = re.fullmatch(r"(-?)(\d{1,18})(?:\.(\d+))?", text)
    if match is None:
        raise ValueError
    value = int(match[2]) * S_NS + int((match[3] or "0").ljust(9, "0")[:9])
    return -value if match[1] else value
