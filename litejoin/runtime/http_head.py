"""What the head of a request may be: its sizes, its target, headers that must not come twice.

Called by the connection, after the parser has taken the head apart. Pure.
"""

import httptools

from litejoin.errors import RequestError
from litejoin.runtime.http_answers import Scope

REQUEST_LINE_BYTES = 8 * 1024
HEAD_BYTES = 32 * 1024
HEADER_COUNT = 100

SINGLE_HEADERS = {
    b"host": "Host",
    b"transfer-encoding": "Transfer-Encoding",
    b"authorization": "Authorization",
    b"idempotency-key": "Idempotency-Key",
}
"""What decides over framing, access or repetition. The parser refuses a second Content-Length."""


def headless_scope() -> Scope:
    """The scope of a request whose head could not be read."""
    return {"type": "http", "method": "", "path": "", "http_version": "1.1", "headers": []}


def split_target(url: bytes, method: str) -> tuple[bytes, bytes]:
    """Path and query of a request target. Raises RequestError for what has none."""
    if url.startswith(b"/") and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    if url == b"*" or method == "CONNECT":
        raise RequestError("this request target is not served", status=400)
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        raise RequestError("malformed request target", status=400) from None
    return parsed.path or b"/", parsed.query or b""


def refuse_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    """Raises RequestError when a header that must be single is not: others may read another one."""
    names = [name for name, _ in headers]
    for name, shown in SINGLE_HEADERS.items():
        if names.count(name) > 1:
            raise RequestError(f"more than one {shown} header", status=400)


def body_beside_upgrade() -> RequestError:
    """The parser takes what follows such a head for another protocol, not for a body."""
    return RequestError(
        "a request with Upgrade cannot have a body here",
        status=400,
        hint="send plain HTTP/1.1 without Upgrade; in Java: HttpClient.Builder.version(HTTP_1_1)",
    )


def head_too_large() -> RequestError:
    """More headers than anyone needs."""
    return RequestError(f"head over {HEAD_BYTES} bytes or {HEADER_COUNT} headers", status=431)


def trailer_too_large() -> RequestError:
    """Chunk extensions or trailers without end."""
    return RequestError("chunk extensions or trailers too large", status=400)
