"""Rows in memory as an Arrow stream that DuckDB reads without a copy and without pyarrow.

The structures are those of the Arrow C data and stream interfaces
(https://arrow.apache.org/docs/format/CDataInterface.html). Used by the archive's worker when it
writes a Parquet file. The stream must be kept until DuckDB has read it: everything it points to
belongs to it.
"""

import ctypes as c
from collections.abc import Sequence
from typing import Any

Columns = tuple[bytes, ...]
"""What ExpiredRows.columns returns."""

FIELDS = (
    ("key", b"u"), ("payload", b"u"), ("changes", b"u"),
    ("timestamp_ms", b"l"), ("op", b"l"), ("checksum", b"l"),
)  # fmt: skip
"""Names and Arrow formats: u UTF-8 with int32 offsets, l int64."""

NULLABLE = 2
ENOENT = 2
_ROOT = b"+s"


class _Schema(c.Structure):
    pass


class _Array(c.Structure):
    pass


class _Stream(c.Structure):
    pass


_Pointers = c.POINTER(c.c_void_p)
_ReleaseSchema = c.CFUNCTYPE(None, c.POINTER(_Schema))
_ReleaseArray = c.CFUNCTYPE(None, c.POINTER(_Array))
_ReleaseStream = c.CFUNCTYPE(None, c.POINTER(_Stream))
_GetSchema = c.CFUNCTYPE(c.c_int, c.POINTER(_Stream), c.POINTER(_Schema))
_GetNext = c.CFUNCTYPE(c.c_int, c.POINTER(_Stream), c.POINTER(_Array))
_LastError = c.CFUNCTYPE(c.c_char_p, c.POINTER(_Stream))

_Schema._fields_ = [
    ("format", c.c_char_p), ("name", c.c_char_p), ("metadata", c.c_char_p), ("flags", c.c_int64),
    ("n_children", c.c_int64), ("children", c.POINTER(c.POINTER(_Schema))),
    ("dictionary", c.c_void_p), ("release", _ReleaseSchema), ("private_data", c.c_void_p),
]  # fmt: skip
_Array._fields_ = [
    ("length", c.c_int64), ("null_count", c.c_int64), ("offset", c.c_int64),
    ("n_buffers", c.c_int64), ("n_children", c.c_int64), ("buffers", _Pointers),
    ("children", c.POINTER(c.POINTER(_Array))), ("dictionary", c.c_void_p),
    ("release", _ReleaseArray), ("private_data", c.c_void_p),
]  # fmt: skip
_Stream._fields_ = [
    ("get_schema", _GetSchema), ("get_next", _GetNext), ("get_last_error", _LastError),
    ("release", _ReleaseStream), ("private_data", c.c_void_p),
]  # fmt: skip


def _free_schema(schema: Any) -> None:
    schema.contents.release = _ReleaseSchema()


def _free_array(array: Any) -> None:
    array.contents.release = _ReleaseArray()


def _free_stream(stream: Any) -> None:
    stream.contents.release = _ReleaseStream()


def _no_message(_stream: Any) -> bytes:
    return b""


_release_schema = _ReleaseSchema(_free_schema)
_release_array = _ReleaseArray(_free_array)
_release_stream = _ReleaseStream(_free_stream)
_no_error = _LastError(_no_message)


class RowStream:
    """One batch of rows; `__arrow_c_stream__` is what DuckDB asks for, once or more often."""

    def __init__(self, columns: Columns, rows: int) -> None:
        self._rows = rows
        self._buffers = _column_buffers(columns)
        self._kept: list[object] = [columns]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A PyCapsule around a new stream."""
        given = False

        def get_schema(_stream: Any, out: Any) -> int:
            self._fill_schema(out.contents)
            return 0

        def get_next(_stream: Any, out: Any) -> int:
            nonlocal given
            if given:
                out.contents.release = _ReleaseArray()  # the end of the stream
            else:
                self._fill_array(out.contents)
            given = True
            return 0

        calls = (_GetSchema(get_schema), _GetNext(get_next))
        stream = _Stream(*calls, _no_error, _release_stream, None)
        self._kept += [stream, calls]
        capsule = c.pythonapi.PyCapsule_New
        capsule.restype = c.py_object
        capsule.argtypes = [c.c_void_p, c.c_char_p, c.c_void_p]
        return capsule(c.addressof(stream), b"arrow_array_stream", None)

    def _fill_schema(self, out: Any) -> None:
        children = [
            _Schema(form, name.encode(), None, NULLABLE, 0, None, None, _release_schema, None)
            for name, form in FIELDS
        ]
        table = (c.POINTER(_Schema) * len(children))(*map(c.pointer, children))
        self._kept += [children, table]
        _assign(
            out, _Schema(_ROOT, b"", None, 0, len(children), table, None, _release_schema, None)
        )

    def _fill_array(self, out: Any) -> None:
        children = [self._child(buffers) for buffers in self._buffers]
        table = (c.POINTER(_Array) * len(children))(*map(c.pointer, children))
        none = (c.c_void_p * 1)(None)
        self._kept += [children, table, none]
        _assign(
            out,
            _Array(self._rows, 0, 0, 1, len(children), none, table, None, _release_array, None),
        )

    def _child(self, buffers: Sequence[bytes | None]) -> Any:
        table = (c.c_void_p * len(buffers))(*map(_address, buffers))
        self._kept.append(table)
        nulls = -1 if buffers[0] is not None else 0
        return _Array(
            self._rows, nulls, 0, len(buffers), 0, table, None, None, _release_array, None
        )


def _column_buffers(columns: Columns) -> list[Sequence[bytes | None]]:
    """The buffers of each field: validity, then offsets and bytes, or numbers."""
    keys, key_text, payloads, payload_text, changes, change_text, present, times, ops, sums = (
        columns
    )
    return [
        (None, keys, key_text),
        (None, payloads, payload_text),
        (present, changes, change_text),
        (None, times),
        (None, ops),
        (None, sums),
    ]


def _address(buffer: bytes | None) -> int | None:
    return None if buffer is None else c.cast(c.c_char_p(buffer), c.c_void_p).value


def _assign(target: Any, source: Any) -> None:
    c.memmove(c.addressof(target), c.addressof(source), c.sizeof(source))
