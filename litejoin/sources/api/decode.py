"""Content-Encoding undone chunk by chunk, never further than one byte over the limit."""

import zlib

from litejoin.errors import PollError
from litejoin.sources.api.words import printable


class Decoder:
    """The decompression of one body. Raises PollError for what is not gzip, or not all of it."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip"):
            raise PollError(f"content encoding {printable(name)[:60]!r} was not asked for")
        self._gzip = zlib.decompressobj(31) if "gzip" in name else None

    def feed(self, chunk: bytes, body: bytearray, limit: int) -> None:
        """Append what a chunk holds; a gzip bomb ends one byte over `limit`."""
        if self._gzip is None:
            body += chunk
            return
        try:
            while chunk and len(body) <= limit:
                if self._gzip.eof:  # a gzip file may have several members
                    self._gzip = zlib.decompressobj(31)
                body += self._gzip.decompress(chunk, limit + 1 - len(body))
                chunk = self._gzip.unconsumed_tail or self._gzip.unused_data
        except zlib.error as error:
            raise PollError(f"the response is not the gzip it says it is: {error}") from None

    def finish(self) -> None:
        """The body is over: is it whole?"""
        if self._gzip is not None and not self._gzip.eof:
            raise PollError("the gzip of the response is cut off")
