"""The body of a push: what its headers say it is, and its bytes without compression.

Called by the http source. Never looks into the JSON. Everything that comes out is bounded, whatever
the client claims.
"""

import functools
import zlib
from types import ModuleType
from typing import Literal

from litejoin.errors import RequestError

Shape = Literal["json", "lines"]

JSON_TYPES = frozenset({"application/json", "text/json", "application/x-www-form-urlencoded"})
"""The last is what curl -d sends unless told otherwise; the body is read as JSON all the same."""

LINES_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)

ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""A frame may ask for a window of gigabytes; what a client of ours sends fits its largest body."""

GZIP_STEP_BYTES = 16 * 1024
"""Input of one step: what is left of it when a member ends is copied, and a body may be made of
hundreds of thousands of empty members."""

ZSTD_STEP_BYTES = 256
"""Input of one step: at most 64 blocks of 128 KiB, so a bomb makes no more than 8 MiB at once."""


@functools.lru_cache(maxsize=64)
def shape_of(content_type: bytes | None) -> Shape:
    """Whether a body is one JSON value or lines of them. Raises RequestError 415."""
    if content_type is None:
        return "json"
    name, *parameters = (part.strip().lower() for part in content_type.decode("latin-1").split(";"))
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    if all(charset in ("utf-8", "utf8", "us-ascii") for charset in charsets):
        if name in JSON_TYPES or name.endswith("+json"):
            return "json"
        if name in LINES_TYPES:
            return "lines"
    raise RequestError(
        "this content type is not taken",
        status=415,
        headers=((b"accept", b"application/json, application/x-ndjson"),),
        hint="send application/json or application/x-ndjson, in UTF-8",
    )


def coding_of(content_encoding: bytes) -> str:
    """The compression of a body: "", "gzip" or "zstd". Raises RequestError 415."""
    coding = content_encoding.strip().lower().decode("latin-1")
    if coding in ("", "identity"):
        return ""
    if coding in ("gzip", "x-gzip"):
        return "gzip"
    if coding == "zstd" and find_zstandard() is not None:
        return "zstd"
    known = "gzip" if find_zstandard() is None else "gzip, zstd"
    raise RequestError(
        "this content encoding is not taken",
        status=415,
        headers=((b"accept-encoding", known.encode()),),
        hint=f"send {known} or no compression",
    )


def decompress(body: bytes, coding: str, max_bytes: int) -> bytes:
    """The body without its compression. Blocks for about 3 ms per MB of output; runs on any thread.

    Raises RequestError: 413 over `max_bytes`, 400 when the data is cut or is not what it should be.
    """
    try:
        out = gunzip(body, max_bytes + 1) if coding == "gzip" else unzstd(body, max_bytes + 1)
    except (zlib.error, ValueError) as error:
        raise RequestError(f"the body is not valid {coding}: {error}", status=400) from None
    if len(out) > max_bytes:
        raise RequestError(f"body over {max_bytes} bytes when decompressed", status=413)
    return out


def gunzip(body: bytes, max_bytes: int) -> bytes:
    """At most `max_bytes` of what gzip members hold. Raises zlib.error, ValueError."""
    out, at = bytearray(), 0
    view = memoryview(body)
    while at < len(body) and len(out) < max_bytes:
        member = zlib.decompressobj(wbits=31)
        while at < len(body) and not member.eof and len(out) < max_bytes:
            step = view[at : at + GZIP_STEP_BYTES]
            out += member.decompress(step, max_bytes - len(out))
            at += len(step) - len(member.unused_data)
        if not member.eof and len(out) < max_bytes:
            raise ValueError("the data ends too early")
    return bytes(out)


def unzstd(body: bytes, max_bytes: int) -> bytes:
    """Bytes of zstd frames, not much more than `max_bytes`. Raises ValueError.

    The streaming reader would bound its output, but takes data that was cut off for complete.
    """
    zstandard = find_zstandard()
    assert zstandard is not None, "coding_of refuses zstd where it cannot be read"
    out, at = bytearray(), 0
    frames = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    while at < len(body) and len(out) < max_bytes:
        frame = frames.decompressobj()
        while at < len(body) and not frame.eof and len(out) < max_bytes:
            step = body[at : at + ZSTD_STEP_BYTES]
            try:
                out += frame.decompress(step)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from None
            at += len(step) - len(frame.unused_data)
        if not frame.eof and len(out) < max_bytes:
            raise ValueError("the data ends too early")
    return bytes(out)


@functools.cache
def find_zstandard() -> ModuleType | None:
    """The package that reads zstd, an optional extra; imported when the first such body comes."""
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard
