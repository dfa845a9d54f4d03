"""Reads the answers that come over one connection, with httptools' parser.

http.client has heads parsed by the email package, in Python, which took a fifth of the time of a
delivery. As there, line ends without CR, folded headers and a chunked answer that also names a
length are understood; what else is no HTTP is refused. Blocking, one thread.
"""

import socket
from typing import Any

import httptools

RESPONSE_BYTES = 64 * 1024
"""Of an answer's body are read: more is not worth keeping a connection for, and is complete."""

ANSWER_BYTES = 512 * 1024
"""Of head, chunk sizes, trailers and interim answers together with the body. Who sends more before
it has answered is cut."""

READ_BYTES = 16 * 1024


class UnreadableAnswerError(Exception):
    """What came over the connection is no HTTP, or too much of it."""


class AnswerReader:
    """The parser of one connection. After `read`, the attributes tell of the answer."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_chunked_length=True, lenient_optional_cr_before_lf=True
        )
        self.code = 0
        """Its status; 0: there is none yet."""
        self.body = b""
        """Its first part of RESPONSE_BYTES."""
        self.retry_after: bytes | None = None
        self.complete = False
        """All of it was read, or more than is wanted."""
        self.is_reusable = False
        """The connection can carry another request."""
        self._has_end = False
        """It says where it ends: otherwise the end of the connection is its end."""

    def read(self, connection: socket.socket) -> None:
        """Wait for an answer and read it. One that is cut after its head is told as not `complete`.

        Raises OSError when the connection fails or ends before that, UnreadableAnswerError.
        """
        self.code, self.body, self.complete, self.is_reusable = 0, b"", False, False
        left = ANSWER_BYTES
        while not self.complete:
            try:
                data = connection.recv(READ_BYTES)
            except OSError:
                if self.code:
                    return
                raise
            if not data:
                self._ended()
                return
            left -= len(data)
            self._feed(data)
            if left < 0 and not self.complete:
                raise UnreadableAnswerError("its answer is too long")

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.is_reusable = False
        except httptools.HttpParserError as error:
            if not self.complete:
                raise UnreadableAnswerError(f"its answer is no HTTP: {error}") from None
            self.is_reusable = False  # the answer is there, with something else behind it

    def _ended(self) -> None:
        if not self.code:
            raise ConnectionResetError("closed without an answer")
        self.complete = not self._has_end

    # httptools: the parts of an answer.

    def on_message_begin(self) -> None:
        """An answer, or something behind it: only one was asked for."""
        self.is_reusable = False
        if not self.code:
            self.retry_after, self._has_end = None, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; behind the head a trailer, which counts for nothing."""
        if self.code:
            return
        name = name.lower()
        if name == b"content-length":
            self._has_end = True
        elif name == b"transfer-encoding":
            self._has_end |= value.lower().endswith(b"chunked")
        elif name == b"retry-after" and self.retry_after is None:
            self.retry_after = value

    def on_headers_complete(self) -> None:
        """The head is complete. That of an interim answer (100, 103) does not count."""
        code = self._parser.get_status_code()
        if not self.code and (code >= 200 or code == 101):
            self.code = code

    def on_body(self, data: bytes) -> None:
        """A part of the body, taken out of its chunks."""
        if self.complete:
            return
        self.body += data
        if len(self.body) > RESPONSE_BYTES:
            self.body = self.body[:RESPONSE_BYTES]
            self.complete = True

    def on_message_complete(self) -> None:
        """The end of an answer."""
        if self.code and not self.complete:
            self.complete = True
            self.is_reusable = self._parser.should_keep_alive()
