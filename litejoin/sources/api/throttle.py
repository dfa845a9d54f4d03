"""How long an API asks to be left alone: Retry-After, the X-RateLimit headers, RateLimit.

Pure functions over headers; `exchange` acts on them. What cannot be read is no wait.
"""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from litejoin.errors import PollError
from litejoin.sources.api.times import MS_NS, parse_time
from litejoin.sources.api.transport import Response

MAX_WAIT_MS = 3_600_000
"""No answer puts a source off for longer at once."""
EPOCH_S = 1_000_000_000
"""A larger X-RateLimit-Reset is a time, a smaller one seconds from now."""
REMAINING = ("x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining")
RESET = ("x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-reset-after")
RETRY_MS = ("retry-after-ms", "x-ms-retry-after-ms")
REFUSALS = frozenset({403, 429, 503})


def wait_ms(answer: Response, now_ms: int) -> int | None:
    """Milliseconds to wait, None when the answer asks for nothing. `now_ms`: wall clock."""
    headers = answer.headers
    now_ms = _date_ms(headers.get("date", "")) or now_ms  # the server's clock, if it tells
    if answer.status in REFUSALS:
        found = _first(headers, RETRY_MS)
        if found is None and "retry-after" in headers:
            found = _retry_after(headers["retry-after"], now_ms)
        if found is not None:
            return _bounded(found)
    if answer.status == 429 or _is_spent(headers):
        reset = next((headers[name] for name in RESET if name in headers), None)
        found = _policy(headers, answer.status == 429) if reset is None else _reset(reset, now_ms)
        if found is not None:
            return _bounded(found)
    return None


def is_refusal(answer: Response) -> bool:
    """A 403 that means too many requests, as GitHub says it."""
    return answer.status == 403 and (_is_spent(answer.headers) or "retry-after" in answer.headers)


def seen_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that tell of limits, for `poll`."""
    marks = ("ratelimit", "rate-limit", "retry-after")
    return {name: text for name, text in headers.items() if any(m in name for m in marks)}


def _retry_after(text: str, now_ms: int) -> float | None:
    seconds = _number(text)
    if seconds is not None:
        return seconds * 1000
    date = _moment_ms(text)
    return None if date is None else date - now_ms


def _is_spent(headers: Mapping[str, str]) -> bool:
    return _first(headers, REMAINING) == 0 or _policy(headers, every=False) is not None


def _policy(headers: Mapping[str, str], every: bool) -> float | None:
    """Milliseconds of the IETF's header, `"hour";r=0;t=30` or `limit=9, remaining=0, reset=30`: of
    the limits that are spent, or of `every` one.
    """
    text = headers.get("ratelimit", "")
    waits = [
        float(match["wait"]) * 1000
        for limit in ([text] if "remaining" in text else text.split(","))
        if (match := _POLICY.search(limit)) and (every or int(match["left"]) == 0)
    ]
    return max(waits, default=None)


_POLICY = re.compile(
    r"\b(?:remaining|r)\s*=\s*(?P<left>\d{1,9})\b.*?\b(?:reset|t)\s*=\s*(?P<wait>\d{1,9})\b"
)


def _reset(text: str, now_ms: int) -> float | None:
    value = _number(text)
    if value is None:
        date = _moment_ms(text)
        return None if date is None else date - now_ms
    if value > EPOCH_S * 1000:
        return value - now_ms
    return value * 1000 - now_ms if value > EPOCH_S else value * 1000


def _bounded(wait: float) -> int:
    return int(min(max(wait, 0), MAX_WAIT_MS))


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    return next((_number(headers[name]) for name in names if name in headers), None)


def _number(text: str) -> float | None:
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _moment_ms(text: str) -> int | None:
    """A date as HTTP writes it, or as RFC 3339."""
    try:
        return parse_time(text, "rfc3339") // MS_NS
    except PollError:
        return _date_ms(text)


def _date_ms(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
