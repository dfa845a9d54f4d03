"""An error as an HTTP answer, always in the documented JSON form.

Used by the connection (faults of the HTTP itself) and by the router (faults that handlers raise).
Never shows more of an unexpected exception than that it happened.
"""

import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from litejoin.errors import (
    BadRowError,
    LiteJoinError,
    OverloadedError,
    QueryError,
    RequestError,
    StorageError,
)

Scope = dict[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON_TYPE = (b"content-type", b"application/json")

STORAGE_RETRY_S = 2.0
"""A full disk or a quarantined shard does not heal within a second; later than this wastes time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: Headers = ()


def answer_json(status: int, value: object, headers: Headers = ()) -> Answer:
    """An answer whose body is `value` as JSON."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return Answer(status, body, (JSON_TYPE, *headers))


def answer_error(error: BaseException) -> Answer:
    """`{"error", "code"}` with `row` and `hint` where the error has them."""
    if not isinstance(error, LiteJoinError):
        return answer_json(500, {"error": "internal error", "code": LiteJoinError.code})
    value: dict[str, object] = {"error": str(error), "code": error.code}
    if isinstance(error, BadRowError) and error.row is not None:
        value["row"] = error.row
    if error.hint:
        value["hint"] = error.hint
    status, headers = status_of(error)
    return answer_json(status, value, headers)


def status_of(error: LiteJoinError) -> tuple[int, Headers]:
    """The status of an error and the headers that belong to it."""
    if isinstance(error, RequestError):
        return error.status, error.headers
    if isinstance(error, BadRowError):
        return 400, ()
    if isinstance(error, OverloadedError):
        return 503, (retry_after(error.retry_after_s),)
    if isinstance(error, StorageError):
        return 503, (retry_after(STORAGE_RETRY_S),)
    if isinstance(error, QueryError) or not error.retriable:
        return 500, ()
    return 503, (retry_after(1.0),)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header that asks for a pause; whole seconds, at least one."""
    return b"retry-after", b"%d" % max(1, math.ceil(seconds))


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    length = (b"content-length", b"%d" % len(answer.body))
    headers = [*answer.headers, length]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
