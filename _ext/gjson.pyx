"""gjson paths: compiled once in Python, evaluated over JSON bytes in C (gjson_path.h).

Called when sources are built (paths of the config) and per response; the program of a path also goes to the
native set diff, which runs it per record. Twin: tests/reference/gjson.py.
"""

import struct

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from buffer cimport LjBuffer, lj_buffer_free, lj_buffer_reserve
from gjson_path cimport (
    LJ_GJSON_MAGIC, LJ_GJSON_MAX_OPS, LJ_KEY_MEMORY, LJ_KEY_MISSING, LJ_KEY_OK, LJ_KEY_TYPE, lj_gjson,
    lj_gjson_free, lj_gjson_load, lj_gjson_none, lj_gjson_run, lj_gjson_trim, lj_gjson_value, lj_key_of)
from json_diff cimport lj_out
from json_fault cimport lj_fault_text
from json_scan cimport (
    LJ_JSON_MAX_DEPTH, LJ_JSON_OK, lj_json, lj_json_begin, lj_json_document, lj_json_skip_space, lj_json_string,
    lj_json_text, lj_json_value)

from litejoin._ext.gjson_compile import compile_ops
from litejoin.errors import JsonError, PathError


cdef refuse(int code, Py_ssize_t at):
    raise JsonError(f"not usable JSON: {lj_fault_text(code).decode()} at byte {at}", offset=at)


cdef class Path:
    """A compiled path. Immutable; any thread."""

    cdef readonly str text
    cdef readonly bytes program
    cdef lj_gjson native

    def __cinit__(self, str text not None):
        self.text = text
        ops, main, texts = compile_ops(text)
        if len(ops) > LJ_GJSON_MAX_OPS:
            raise PathError(f"path {text!r} has more than {LJ_GJSON_MAX_OPS} parts")
        head = struct.pack("<III", LJ_GJSON_MAGIC, len(ops), main)
        self.program = head + b"".join(struct.pack("<IIIIIIIIq", *op) for op in ops) + texts
        if lj_gjson_load(&self.native, <const uint8_t *><const char *>self.program, <size_t>len(self.program)):
            raise PathError(f"path {text!r} cannot be compiled")

    def __dealloc__(self):
        lj_gjson_free(&self.native)

    def __repr__(self):
        return f"Path({self.text!r})"

    cdef find(self, const uint8_t *start, size_t size, uint32_t max_depth, bint judged, lj_gjson_value *found):
        """Evaluate over one document; the caller frees `found`."""
        cdef lj_json scan
        cdef int code = LJ_JSON_OK, failed = 0
        lj_json_begin(&scan, start, size)
        with nogil:
            if not judged:
                code = <int>lj_json_document(&scan, max_depth)
            if code == LJ_JSON_OK:
                lj_json_begin(&scan, start, size)
                lj_json_skip_space(&scan)
                failed = lj_gjson_run(&self.native, 0, self.native.main, scan.at, lj_gjson_trim(scan.at, scan.end), found)
        if code:
            refuse(code, scan.error_at - start)
        if failed:
            raise MemoryError

    def get(self, const unsigned char[::1] document not None, uint32_t max_depth=64, *, bint judged=False):
        cdef lj_gjson_value found
        cdef size_t size = <size_t>document.shape[0]
        cdef const uint8_t *start = &document[0] if size else <const uint8_t *>b""
        memset(&found, 0, sizeof(found))
        try:
            self.find(start, size, max_depth, judged and size > 0, &found)
            if not found.found:
                return None
            return PyBytes_FromStringAndSize(<const char *>found.start, <Py_ssize_t>found.size)
        finally:
            lj_gjson_none(&found)


def compile_path(str text not None) -> Path:
    return Path(text)


cdef int put(LjBuffer *out, const uint8_t *start, const uint8_t *end) except -1 nogil:
    if lj_buffer_reserve(out, <size_t>(end - start) + 2) < 0:
        with gil:
            raise MemoryError
    memcpy(out.data + out.len, start, <size_t>(end - start))
    out.len += <size_t>(end - start)
    return 0


cdef int write_outline(lj_json *scan, size_t most, LjBuffer *out) except -1 nogil:
    """Copy a document, `[]` for each array outside of others with more than `most` bytes."""
    cdef const uint8_t *kept = scan.at
    cdef const uint8_t *start
    cdef lj_json_text text
    cdef int code = LJ_JSON_OK
    while scan.at < scan.end and code == LJ_JSON_OK:
        start = scan.at
        if start[0] == b"[":
            code = <int>lj_json_value(scan, LJ_JSON_MAX_DEPTH)
            if code == LJ_JSON_OK and scan.at - start > <Py_ssize_t>most:
                put(out, kept, start)
                memcpy(out.data + out.len, b"[]", 2)  # put keeps room for it
                out.len += 2
                kept = scan.at
        elif start[0] == b'"':
            code = <int>lj_json_string(scan, &text)
        else:
            scan.at += 1
    put(out, kept, scan.at)
    return code


def outline(const unsigned char[::1] document not None, size_t most) -> bytes:
    cdef size_t size = <size_t>document.shape[0]
    cdef const uint8_t *start = &document[0] if size else <const uint8_t *>b""
    cdef LjBuffer out
    cdef lj_json scan
    cdef int code
    memset(&out, 0, sizeof(out))
    lj_json_begin(&scan, start, size)
    try:
        with nogil:
            code = write_outline(&scan, most, &out)
        if code:
            refuse(code, scan.error_at - start)
        return PyBytes_FromStringAndSize(<const char *>out.data, <Py_ssize_t>out.len)
    finally:
        lj_buffer_free(&out)


def split(bytes array not None, uint32_t max_depth=64) -> list:
    cdef const uint8_t *start = <const uint8_t *><const char *>array
    cdef const uint8_t *first
    cdef lj_json scan
    lj_json_begin(&scan, start, <size_t>len(array))
    code = <int>lj_json_document(&scan, max_depth)
    if code:
        refuse(code, scan.error_at - start)
    lj_json_begin(&scan, start, <size_t>len(array))
    lj_json_skip_space(&scan)
    if scan.at[0] != ord("["):
        raise JsonError("not a JSON array", offset=scan.at - start)
    out = []
    scan.at += 1
    lj_json_skip_space(&scan)
    while scan.at[0] != ord("]"):
        if scan.at[0] == ord(","):
            scan.at += 1
            lj_json_skip_space(&scan)
        first = scan.at
        lj_json_value(&scan, max_depth)
        out.append((first - start, scan.at - start))
        lj_json_skip_space(&scan)
    return out


def key_of(bytes record not None, paths) -> bytes:
    cdef const uint8_t *start = <const uint8_t *><const char *>record
    cdef lj_gjson natives[16]
    cdef lj_json scan
    cdef lj_out out
    cdef uint32_t count = 0
    cdef Path path
    if not 0 < len(paths) <= 16:
        raise PathError("a key has 1 to 16 paths")
    lj_json_begin(&scan, start, <size_t>len(record))
    if lj_json_document(&scan, 1024) != LJ_JSON_OK:
        raise JsonError("not usable JSON", offset=scan.error_at - start)
    lj_json_begin(&scan, start, <size_t>len(record))
    lj_json_skip_space(&scan)
    for path in paths:
        natives[count] = path.native
        count += 1
    memset(&out, 0, sizeof(out))
    code = lj_key_of(natives, count, scan.at, lj_gjson_trim(scan.at, scan.end), &out)
    try:
        if code == LJ_KEY_OK:
            return PyBytes_FromStringAndSize(<const char *>out.buffer.data, <Py_ssize_t>out.buffer.len)
    finally:
        lj_buffer_free(&out.buffer)
    if code == LJ_KEY_MEMORY:
        raise MemoryError
    names = ", ".join(path.text for path in paths)
    if code == LJ_KEY_MISSING:
        raise JsonError(f"nothing at key path {names}")
    if code == LJ_KEY_TYPE:
        raise JsonError(f"key path {names} leads to null, a boolean, an array or an object")
    raise JsonError(f"the key at {names} is empty, holds NUL or is longer than 512 bytes")
