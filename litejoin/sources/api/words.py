"""Words from outside, fit for one log line. Used wherever an answer or an error is told of."""

from http import HTTPStatus

import urllib3

REASON_CHARS = 300
"""Longest text from outside that gets into a log line."""


def printable(text: str) -> str:
    """Text from outside for one log line: control characters and bidi marks escaped, cut."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe[:REASON_CHARS]


def cause(error: BaseException) -> str:
    """The innermost reason, without addresses of objects or the request's URL."""
    inner: BaseException = error
    while (inner.__cause__ or inner.__context__) is not None:
        inner = inner.__cause__ or inner.__context__ or inner
    if isinstance(inner, OSError) and inner.strerror:
        return printable(inner.strerror)
    return printable(f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__)


def status_text(status: int, location: str | None = None) -> str:
    """`HTTP 503 Service Unavailable`, and where a redirect would lead."""
    try:
        text = f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        text = f"HTTP {status}"
    if 300 <= status < 400 and location is not None:
        try:
            host = urllib3.util.parse_url(location).host
        except urllib3.exceptions.LocationParseError:
            host = None
        where = f" to {printable(host)[:100]}" if host else ""
        return f"{text}{where}: redirects are not followed"
    return text
