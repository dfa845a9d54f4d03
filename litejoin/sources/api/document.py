"""Values in a response body that the walk needs: tokens, totals, flags, fields of records.

Used by pagination, watermarks and auth. A body was judged by the record diff before it comes here;
paths are gjson paths, compiled once. Holds no copy of the body longer than one question.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from litejoin._ext.gjson import Path, compile_path
from litejoin.errors import JsonError, PollError
from litejoin.sources.api.words import printable

MISSING = object()
"""What `value` finds where there is nothing; a JSON null is None."""

MAX_TOKEN_CHARS = 16 * 1024


@lru_cache(maxsize=4096)
def compiled(path: str) -> Path:
    """The compiled path; the same few of a config come again at each poll."""
    return compile_path(path)


class Document:
    """One response body. `value` parses only what the path finds."""

    def __init__(self, body: bytes | bytearray) -> None:
        self._body = bytes(body)

    def raw(self, path: str) -> bytes | None:
        """The JSON text at a path. Raises PollError when the body is not JSON."""
        try:
            return compiled(path).get(self._body, 1024)
        except JsonError as error:
            raise PollError(str(error)) from None

    def value(self, path: str) -> Any:
        """The value at a path, or MISSING."""
        raw = self.raw(path)
        return MISSING if raw is None else json.loads(raw)

    def token(self, path: str) -> Any:
        """A page token: a text or a number; None when there is none (null, "", false, missing).

        Raises PollError for anything else.
        """
        raw = self.raw(path)
        if raw is None or raw in (b"null", b"false", b'""'):
            return None
        if raw[:1] in b"{[t":
            raise PollError(f"{path} holds no page token: {printable(raw[:60].decode())}")
        if len(raw) > MAX_TOKEN_CHARS:
            raise PollError(f"{path} holds a page token of {len(raw):,} bytes")
        # A number keeps its spelling: an id beyond 2^53 must come back as it was sent.
        return json.loads(raw) if raw[:1] == b'"' else Number(raw.decode())

    def flag(self, path: str) -> bool | None:
        """A boolean, however APIs write it; None when it is missing."""
        value = self.value(path)
        if value is MISSING or value is None:
            return None
        return value not in (False, 0, "", "false", "False", "0")

    def count(self, path: str) -> int | None:
        """A whole number, perhaps as a text; None when it is missing. Raises PollError."""
        value = self.value(path)
        if value is MISSING or value is None:
            return None
        try:
            return int(value)
        except (TypeError, ValueError):
            raise PollError(f"{path} is not a number: {printable(str(value))[:60]}") from None

    def field_of(self, response_path: str, index: int, path: str) -> Any:
        """The token at a path of one record."""
        base = response_path or "@this"
        if self.raw(base) is not None and (self.raw(base) or b"")[:1] == b"{":
            return self.token(f"{base}.{path}")
        return self.token(f"{base}.{index}.{path}")

    def fields(self, response_path: str, path: str) -> Iterator[Any]:
        """The values at a path of all records that have it."""
        base = response_path or "@this"
        records = self.raw(base)
        if records is None:
            return
        whole = Document(records)
        if records[:1] == b"[":
            yield from json.loads(whole.raw(f"#.{path}") or b"[]", parse_float=Number)
        elif (found := whole.raw(path)) is not None:
            yield json.loads(found, parse_float=Number)


class Number(str):
    """A JSON number as it is spelled; goes into a JSON body as a number."""

    __slots__ = ()
