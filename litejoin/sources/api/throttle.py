"""How long an API asks to be left alone: Retry-After and the X-RateLimit headers.

Pure functions over headers; `exchange` acts on them. What cannot be read is no wait.
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from litejoin.sources.api.transport import Response

MAX_WAIT_MS = 3_600_000
"""No answer puts a source off for longer at once."""
EPOCH_S = 1_000_000_000
"""A larger X-RateLimit-Reset is a time, a smaller one seconds from now."""
REMAINING = ("x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining")
RESET = ("x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset")
REFUSALS = frozenset({403, 429, 503})


def wait_ms(answer: Response, now_ms: int) -> int | None:
    """Milliseconds to wait, None when the answer asks for nothing. `now_ms`: wall clock."""
    headers = answer.headers
    now_ms = _date_ms(headers.get("date", "")) or now_ms  # the server's clock, if it tells
    spent = _first(headers, REMAINING) == 0
    if answer.status in REFUSALS and "retry-after" in headers:
        found = _retry_after(headers["retry-after"], now_ms)
        if found is not None:
            return _bounded(found)
    if answer.status == 429 or spent:
        reset = _first(headers, RESET)
        if reset is not None:
            return _bounded(_reset(reset, now_ms))
    return None


def is_refusal(answer: Response) -> bool:
    """A 403 that means too many requests, as GitHub says it."""
    spent = _first(answer.headers, REMAINING) == 0
    return answer.status == 403 and (spent or "retry-after" in answer.headers)


def seen_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that tell of limits, for `poll`."""
    marks = ("ratelimit", "rate-limit", "retry-after")
    return {name: text for name, text in headers.items() if any(m in name for m in marks)}


def _retry_after(text: str, now_ms: int) -> float | None:
    seconds = _number(text)
    if seconds is not None:
        return seconds * 1000
    date = _date_ms(text)
    return None if date is None else date - now_ms


def _reset(value: float, now_ms: int) -> float:
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


def _date_ms(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
