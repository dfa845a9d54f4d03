"""A body put together chunk by chunk, Content-Encoding undone, never further than one byte over the
limit. A large one whose length is known is allocated once: growing would leave its smaller selves
in the heap.
"""

import zlib

from litejoin.errors import PollError
from litejoin.sources.api.words import printable

LARGE_BYTES = 1024 * 1024


class Decoder:
    """One body. Raises PollError for what is not gzip, or not all of it."""

    def __init__(self, encoding: str, length: int | None, limit: int) -> None:
        """`length`: what the header says is to come. `limit`: most bytes of the body."""
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip"):
            raise PollError(f"content encoding {printable(name)[:60]!r} was not asked for")
        self._gzip = zlib.decompressobj(31) if "gzip" in name else None
        self._limit = limit
        is_large = self._gzip is None and length is not None and LARGE_BYTES < length <= limit
        self._body = bytearray(length if is_large and length is not None else 0)
        self.size = 0
        """Bytes of the body so far."""

    def feed(self, chunk: bytes) -> None:
        """Append what a chunk holds; a gzip bomb ends one byte over the limit."""
        if self._gzip is None:
            self._append(chunk)
            return
        try:
            while chunk and self.size <= self._limit:
                if self._gzip.eof:  # a gzip file may have several members
                    self._gzip = zlib.decompressobj(31)
                self._append(self._gzip.decompress(chunk, self._limit + 1 - self.size))
                chunk = self._gzip.unconsumed_tail or self._gzip.unused_data
        except zlib.error as error:
            raise PollError(f"the response is not the gzip it says it is: {error}") from None

    def finish(self) -> None:
        """The body is over: is it whole?"""
        if self._gzip is not None and not self._gzip.eof:
            raise PollError("the gzip of the response is cut off")

    def body(self) -> bytearray:
        """What came; the decoder is done with."""
        del self._body[self.size :]
        return self._body

    def _append(self, data: bytes) -> None:
        self._body[self.size : self.size + len(data)] = data
        self.size += len(data)
