"""The two shapes that travel: packed rows on their way in, results on their way out.

Row batch (bytes, little endian, made by sources, read by the writer). Rows follow each other; each
is padded with zero bytes to a multiple of 8:

    offset  size  field
    0       4     size            bytes of this row with header and padding
    4       2     table           catalogue number of the topic (or of the source, for state rows)
    6       1     kind            RowKind
    7       1     flags           on a DELETE: 1 expiry (Row.expire), 3 exact expiry (Row.exact);
                                  on an UPSERT: 4 known (Row.known)
    8       8     timestamp_ms    signed, Unix milliseconds; exact expiry: a row's checksum
    16      4     key_len         bytes of the key, UTF-8, 1..
    20      4     payload_len     bytes of the payload: JSON text as received
    24      4     extra_len       UPSERT: `changes` JSON or nothing; STATE_UPSERT: 16-byte hash
    28      4     reserved        0
    32      ..    key, payload, extra, padding

Python packs rows only on cold paths (tests, retention); hot paths pack them in native code.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b

import msgspec

ROW_HEADER = struct.Struct("<IHBBqIIII")


class RowKind(IntEnum):
    """What a packed row asks the writer to do."""

    UPSERT = 1
    DELETE = 2
    STATE_UPSERT = 3
    """Diff state of an api source: commits in one transaction with the topic row of its key."""
    STATE_DELETE = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch, unpacked. `payload` and `extra` are bytes that are never parsed here."""

    table: int
    kind: RowKind
    timestamp_ms: int
    key: bytes
    payload: bytes = b""
    extra: bytes = b""
    expire: bool = False
    """DELETE only: leave the row alone if it was written again after `timestamp_ms`."""
    exact: bool = False
    """With `expire`: `timestamp_ms` is the checksum of the version to delete, and of no other."""
    known: bool = False
    """UPSERT only: the source had a record of the key before, so it is `updated`, in a topic that
    has no row of it, too."""


def pack_rows(rows: Iterable[Row]) -> bytes:
    """Pack rows into one batch; checks no JSON. Raises struct.error for numbers out of range."""
    out = bytearray()
    for row in rows:
        body = len(row.key) + len(row.payload) + len(row.extra)
        size = (ROW_HEADER.size + body + 7) & ~7
        out += ROW_HEADER.pack(
            size,
            row.table,
            row.kind,
            int(row.expire) | int(row.exact) << 1 | int(row.known) << 2,
            row.timestamp_ms,
            len(row.key),
            len(row.payload),
            len(row.extra),
            0,
        )
        out += row.key + row.payload + row.extra
        out += b"\0" * (size - ROW_HEADER.size - body)
    return bytes(out)


def unpack_rows(batch: bytes) -> Iterator[Row]:
    """The rows of a batch, in order. Raises ValueError when the bytes are not a row batch."""
    at = 0
    while at < len(batch):
        if len(batch) - at < ROW_HEADER.size:
            raise ValueError(f"row batch cut at byte {at}")
        size, table, kind, flags, ts, klen, plen, xlen, _res = ROW_HEADER.unpack_from(batch, at)
        body = at + ROW_HEADER.size
        if size < ROW_HEADER.size + klen + plen + xlen or size % 8 or at + size > len(batch):
            raise ValueError(f"bad row size at byte {at}")
        yield Row(
            table,
            RowKind(kind),
            ts,
            batch[body : body + klen],
            batch[body + klen : body + klen + plen],
            batch[body + klen + plen : body + klen + plen + xlen],
            expire=bool(flags & 1),
            exact=bool(flags & 2),
            known=bool(flags & 4),
        )
        at += size


class ResultOp(IntEnum):
    """What happened to a result key."""

    UPSERT = 1
    DELETE = 2


class Result(msgspec.Struct, frozen=True, gc=False):
    """One entry of the results log.

    `pos` is its log position and also its `seq`: it rises with every result of the pipeline, so
    with every result of a join. `key` and `rows` are JSON text, ready to be sent. A struct rather
    than a dataclass: it is made for every result and every reader, at a tenth of the cost.
    """

    pos: int
    query: str
    key: str
    rows: str
    op: ResultOp
    emit_at_ms: int
    pipeline: str
    """Pipeline name and epoch of the data directory: ids of a recreated directory differ."""
    start_ms: int | None = None
    end_ms: int | None = None
    """The span of a window's result, [start, end)."""

    @property
    def identity(self) -> str:
        """What a newer result replaces: the key, and for a window the start of its span. Results
        of one identity are delivered in order, and never two at once.
        """
        return self.key if self.start_ms is None else f"{self.key}@{self.start_ms}"

    @property
    def id(self) -> str:
        """Stable over retries and restarts: a hash of (pipeline, join, key, seq)."""
        return result_id(self.pipeline, self.query, self.key, self.pos)

    def body(self) -> bytes:
        """The result object of the docs as JSON, byte-identical on every call."""
        return self.named_body()[1]

    def named_body(self) -> tuple[str, bytes]:
        """`id` and `body`, for half of what the two cost apart: the body holds the id."""
        # Names match [A-Za-z_][A-Za-z0-9_.-]*, so nothing in them needs escaping.
        op = "upsert" if self.op is ResultOp.UPSERT else "delete"
        id_ = self.id
        text = (
            f'{{"query":"{self.query}","key":{self.key},"rows":{self.rows},{self._window()}'
            f'"emit_at":"{rfc3339(self.emit_at_ms)}","op":"{op}","seq":{self.pos},"id":"{id_}"}}'
        )
        return id_, text.encode()

    def _window(self) -> str:
        if self.start_ms is None or self.end_ms is None:
            return ""
        start, end = rfc3339(self.start_ms), rfc3339(self.end_ms)
        return f'"window":{{"start":"{start}","end":"{end}"}},'


def result_id(pipeline: str, query: str, key: str, seq: int) -> str:
    """24 hex digits of BLAKE2b over the four parts, separated by NUL, which none of them holds."""
    digest = _begun(pipeline, query).copy()
    digest.update(f"{key}\0{seq}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _begun(pipeline: str, query: str) -> blake2b:
    # Few pairs and many results: the common part is hashed once.
    return blake2b(f"{pipeline}\0{query}\0".encode("utf-8", "surrogatepass"), digest_size=12)


@lru_cache(maxsize=256)
def rfc3339(unix_ms: int) -> str:
    """`2026-11-23T12:00:00.123Z`. The results of a flush have one time: formatted once."""
    return f"{_whole_second(unix_ms // 1000)}.{unix_ms % 1000:03d}Z"


@lru_cache(maxsize=64)
def _whole_second(unix_s: int) -> str:
    # Not by %Y, which leaves out the zeros of the year 999.
    return datetime.fromtimestamp(unix_s, UTC).isoformat()[:19]
