"""What is read off a receiver's connection: what http.client reads of the same bytes, however they
are cut, and nothing that could stand for an answer to the next request.
"""

import io
import socket
from http.client import HTTPResponse
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from litejoin.sinks.http.reader import (
    ANSWER_BYTES,
    RESPONSE_BYTES,
    AnswerReader,
    UnreadableAnswerError,
)

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"


class Wire:
    """A connection that hands out pieces, and then ends, or fails."""

    def __init__(self, *pieces: bytes, error: OSError | None = None) -> None:
        self.pieces = list(pieces)
        self.error = error

    def recv(self, most: int) -> bytes:
        if not self.pieces:
            if self.error is not None:
                raise self.error
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > most:
            self.pieces.insert(0, piece[most:])
        return piece[:most]

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(b"".join(self.pieces))


def read(*pieces: bytes, error: OSError | None = None) -> AnswerReader:
    reader = AnswerReader()
    reader.read(cast(socket.socket, Wire(*pieces, error=error)))
    return reader


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    trailer = b"Retry-After: never\r\nContent-Length: 9\r\n\r\n"
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n" + trailer


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    body = draw(st.binary(max_size=60))
    names = st.sampled_from(["Date", "retry-after", "Retry-After", "X-Long"])
    values = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["Cc"]))
    headers = [f"{n}: {v}".encode("latin-1") for n, v in draw(st.lists(st.tuples(names, values)))]
    code = draw(st.sampled_from([200, 201, 204, 301, 304, 404, 410, 429, 500, 503, 999]))
    # Of a 204 with chunks http.client waits for chunks: no oracle there.
    framing = draw(
        st.sampled_from(["length", "end"] if code in (204, 304) else ["length", "end", "chunks"])
    )
    if framing == "length":
        headers.append(b"content-Length: %d" % len(body))
    elif framing == "chunks":
        headers.append(b"Transfer-encoding: Chunked")
        body = chunked(body, draw(st.integers(1, 30)))
    if draw(st.booleans()):
        headers.append(draw(st.sampled_from([b"Connection: close", b"connection: Keep-Alive"])))
    version = draw(st.sampled_from([b"1.1", b"1.0"]))
    end = draw(st.sampled_from([b"\r\n", b"\n"]))
    reason = draw(st.sampled_from([b"", b" Fine", b" \xfcber"]))
    lines = [b"HTTP/%b %d%b" % (version, code, reason), *headers, b"", b""]
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(st.integers(0, 2))
    return interim + end.join(lines) + (b"" if code in (204, 304) else body)


@given(answers(), st.lists(st.integers(0, 400), max_size=8))
@example(b"HTTP/1.1 503 x\r\nRetry-After: 1\r\n\r\nbusy", [3, 20, 30])
def test_it_reads_what_http_client_reads(answer: bytes, cuts: list[int]) -> None:
    oracle = HTTPResponse(cast(socket.socket, Wire(answer)))
    oracle.begin()
    places = [0, *sorted(cuts), len(answer)]
    pieces = [answer[a:b] for a, b in zip(places, places[1:], strict=False)]
    reader = read(*(piece for piece in pieces if piece))
    assert reader.complete
    assert (reader.code, reader.body) == (oracle.status, oracle.read())
    assert reader.is_reusable == (not oracle.will_close)
    told = oracle.headers.get("Retry-After")
    assert reader.retry_after == (None if told is None else told.encode("latin-1"))


def test_one_connection_carries_many_answers() -> None:
    reader = AnswerReader()
    late = b"HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"
    for answer, expected in [
        (late, (429, b"busy", b"7")), (EMPTY, (200, b"", None)), (late, (429, b"busy", b"7")),
    ]:  # fmt: skip
        reader.read(cast(socket.socket, Wire(answer)))
        assert reader.complete
        assert reader.is_reusable
        assert (reader.code, reader.body, reader.retry_after) == expected


@pytest.mark.parametrize(
    "behind", [EMPTY, b"HTTP/1.1 410 Gone\r\nRetry-After: 9\r\n\r\nno", b"rubbish", b"\x00"]
)
def test_what_follows_an_answer_is_no_part_of_it_and_ends_the_connection(behind: bytes) -> None:
    reader = read(OK + b"Content-Length: 2\r\n\r\nhi" + behind)
    assert (reader.code, reader.body, reader.retry_after) == (200, b"hi", None)
    assert reader.complete
    assert not reader.is_reusable


def test_interim_answers_do_not_count() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\nContent-Length: 5\r\n\r\n"
    reader = read(early * 3 + OK + b"\r\nhello")
    assert (reader.code, reader.body, reader.retry_after) == (200, b"hello", None)
    assert reader.complete
    with pytest.raises(UnreadableAnswerError, match="too long"):
        read(*[early] * (ANSWER_BYTES // len(early) + 2))


def test_a_change_of_protocol_is_an_answer_and_ends_the_connection() -> None:
    reader = read(b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n\x00\x01")
    assert reader.code == 101
    assert reader.complete
    assert not reader.is_reusable


@pytest.mark.parametrize(
    "head", [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n"]
)
@pytest.mark.parametrize("error", [None, TimeoutError(), ConnectionResetError()])
def test_an_answer_that_is_cut_after_its_head_says_so(head: bytes, error: OSError | None) -> None:
    reader = read(OK + head + b"only", error=error)
    assert (reader.code, reader.body) == (200, b"only")
    assert not reader.complete
    assert not reader.is_reusable


def test_without_a_length_only_an_orderly_end_is_the_end() -> None:
    assert read(OK + b"\r\nall").complete
    assert not read(OK + b"\r\nall", error=ConnectionResetError()).complete


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 2", OK + b"Content-Len", b"HTTP/1.1 100 \r\n\r\n"]
)
def test_a_connection_that_ends_before_a_head_gave_no_answer(start: bytes) -> None:
    with pytest.raises(ConnectionResetError):
        read(*([start] if start else []))
    with pytest.raises(TimeoutError):
        read(*([start] if start else []), error=TimeoutError())


@pytest.mark.parametrize(
    "answer",
    [b"\x00\xff\xfe not http\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"HTTP/2 200\r\n\r\n",
     b"HTTP/1.1 20\r\n\r\n", OK + b"Content-Length: -1\r\n\r\n", OK + b"bad name: 1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_refused(answer: bytes) -> None:
    with pytest.raises(UnreadableAnswerError, match="no HTTP"):
        read(answer)


def test_a_body_is_read_up_to_its_limit_and_a_head_without_end_is_cut() -> None:
    for head, end in [
        (b"Content-Length: 900000\r\n\r\n", b""), (b"\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n", b""),
    ]:  # fmt: skip
        body = b"x" * 900_000
        sent = OK + head + (chunked(body, 9_000) if b"chunked" in head else body) + end
        reader = read(sent)
        assert reader.complete
        assert not reader.is_reusable
        assert reader.body == body[:RESPONSE_BYTES]
    exact = read(OK + b"Content-Length: %d\r\n\r\n" % RESPONSE_BYTES + b"x" * RESPONSE_BYTES)
    assert (len(exact.body), exact.is_reusable) == (RESPONSE_BYTES, True)
    with pytest.raises(UnreadableAnswerError, match="too long"):
        read(OK, *[b"X-More: %b\r\n" % (b"y" * 1000)] * 1000)
