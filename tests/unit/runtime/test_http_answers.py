"""What a sender is told of an error: whether to come again, and when."""

import pytest

from litejoin.errors import (
    BadRowError,
    LiteJoinError,
    OverloadedError,
    QueryError,
    StorageFullError,
)
from litejoin.runtime.http_answers import answer_error


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (StorageFullError("no space left"), 503, b"2"),
        (OverloadedError("full", retry_after_s=4.2), 503, b"5"),
        (BadRowError("row 3: no key", row=3), 400, None),
        (QueryError("no such column"), 500, None),
    ],
)
def test_what_may_go_better_later_says_when(
    error: LiteJoinError, status: int, retry_after: bytes | None
) -> None:
    answer = answer_error(error)
    assert answer.status == status
    assert dict(answer.headers).get(b"retry-after") == retry_after
