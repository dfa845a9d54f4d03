"""Values in a response body that the walk needs: tokens, totals, flags, fields of records.

Used by pagination, watermarks and auth. Paths are gjson paths, compiled once. A page was judged by
the record diff before it comes here; what is asked of a large one by names is looked up in its
outline, where no list of records has to be stepped over. Never copies the body.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from litejoin._ext.gjson import Path, compile_path, outline
from litejoin.errors import JsonError, PollError
from litejoin.sources.api.words import printable

MISSING = object()
"""What `value` finds where there is nothing; a JSON null is None."""

MAX_TOKEN_CHARS = 16 * 1024
LARGE_BYTES = 16 * 1024
"""A larger page is worth an outline."""
ELIDED_BYTES = 1024
"""A longer array is none that holds a token."""
_MODIFIER = r"@(?:this|reverse|keys|values|flatten|fromstr)\b"
_NAMES = re.compile(rf"(?:(?!\d+(?:\.|$)|{_MODIFIER})(?:\\.|[\w@$:-])+(?:\.(?!$)|$))+")
"""A path that leads through objects only, by their members' names."""


@lru_cache(maxsize=4096)
def compiled(path: str) -> Path:
    """The compiled path; the same few of a config come again at each poll."""
    return compile_path(path)


class Document:
    """One response body. `value` parses only what the path finds."""

    def __init__(self, body: bytes | bytearray, *, judged: bool = False) -> None:
        """`judged`: it is known to be strict JSON. The body must not change meanwhile."""
        self._body = body
        self._judged = judged
        self._outline: bytes | None = None

    def raw(self, path: str) -> bytes | None:
        """The JSON text at a path. Raises PollError when the body is not JSON."""
        try:
            return compiled(path).get(self._body, 1024, judged=self._judged)
        except JsonError as error:
            raise PollError(str(error)) from None

    def _short(self, path: str) -> bytes | None:
        """The JSON text at a path to anything but a long array."""
        if not self._judged or len(self._body) <= LARGE_BYTES or not by_names(path):
            return self.raw(path)
        if self._outline is None:
            self._outline = outline(self._body, ELIDED_BYTES)
        return compiled(path).get(self._outline, 1024, judged=True)

    def value(self, path: str) -> Any:
        """The value at a path, or MISSING; of a long array an empty one. Raises PollError."""
        raw = self._short(path)
        return MISSING if raw is None else _parsed(raw, path)

    def token(self, path: str) -> Any:
        """A page token: a text or a number; None when there is none (null, "", false, missing).

        Raises PollError for anything else.
        """
        raw = self._short(path)
        if raw is None or raw in (b"null", b"false", b'""'):
            return None
        if raw[:1] in b"{[t":
            raise PollError(f"{path} holds no page token: {printable_start(raw)}")
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
        except (TypeError, ValueError, OverflowError):
            raise PollError(f"{path} is not a number: {printable(str(value))[:60]}") from None

    def field_of(self, response_path: str, index: int, path: str) -> Any:
        """The token at a path of one record."""
        base = response_path or "@this"
        if index == 0 and (self.raw(base) or b"")[:1] == b"{":
            return self.token(f"{base}.{path}")
        return self.token(f"{base}.{index}.{path}")

    def fields(self, response_path: str, path: str) -> Iterator[Any]:
        """The values at a path of all records that have it."""
        if response_path and not by_names(response_path):
            records = self.raw(response_path)
            if records is not None:
                yield from Document(records, judged=True).fields("", path)
            return
        base = f"{response_path}." if response_path else ""
        if (found := self.raw(f"{base}#.{path}")) is not None:
            yield from _parsed(found, path, Number)
        elif (found := self.raw(f"{base}{path}")) is not None:
            yield _parsed(found, path, Number)


def _parsed(raw: bytes, path: str, parse_float: Callable[[str], Any] = float) -> Any:
    """JSON that Python can hold. Raises PollError: not an integer of 5,000 digits, for example."""
    try:
        return json.loads(raw, parse_float=parse_float)
    except (ValueError, RecursionError):
        raise PollError(f"{path} holds no usable value: {printable_start(raw)}") from None


def printable_start(raw: bytes) -> str:
    """The beginning of a JSON text, for one log line."""
    return printable(raw[:60].decode(errors="replace"))


@lru_cache(maxsize=4096)
def by_names(path: str) -> bool:
    """Does this path lead through objects only?"""
    return _NAMES.fullmatch(path) is not None


class Number(str):
    """A JSON number as it is spelled; goes into a JSON body as a number."""

    __slots__ = ()
