"""Compares JSON records: equal or not, what changed, and a hash that equal records share.

Called by the api source for records that changed, and by tests. Twin: tests/reference/diff.py.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from buffer cimport lj_buffer_free
from json_diff cimport (
    LJ_IGNORE_MAX, lj_hash128, lj_hash_document, lj_hasher, lj_hasher_free, lj_ignore, lj_out, lj_segment,
    lj_tree, lj_tree_diff, lj_tree_free, lj_tree_parse)
from json_fault cimport LJ_FAULT_MEMORY, lj_fault_text

from litejoin.errors import JsonError, PathError


cdef fail(int code, Py_ssize_t offset):
    if code == LJ_FAULT_MEMORY:
        raise MemoryError
    text = lj_fault_text(code).decode()
    raise JsonError(f"not usable JSON: {text} at byte {offset}", offset=offset)


def path_segments(str path not None) -> list:
    """The names of an ignore path, unescaped: `a\\.b.c` is ["a.b", "c"]."""
    segments, text, i = [], [], 0
    while i < len(path):
        if path[i] == ".":
            segments.append("".join(text))
            text = []
        elif path[i] == "\\":
            i += 1
            if i == len(path):
                raise PathError(f"path {path!r} ends in a backslash", offset=i - 1)
            text.append(path[i])
        else:
            text.append(path[i])
        i += 1
    segments.append("".join(text))
    if "" in segments:
        raise PathError(f"path {path!r} has an empty name", hint="write a field's name, such as meta.seen")
    if segments[0] == "$" and not path.startswith("\\"):
        raise PathError(f"path {path!r} starts with $", hint="write the field's name without `$.`")
    return segments


cdef class Ignore:
    """Ignored paths in the form that native code reads. Immutable; any thread."""

    cdef lj_ignore native
    cdef lj_segment *segments
    cdef uint32_t *first
    cdef list texts

    def __cinit__(self, paths=()):
        compiled = [path_segments(path) for path in paths]
        if len(compiled) > LJ_IGNORE_MAX:
            raise PathError(f"{len(compiled)} ignored paths; at most {LJ_IGNORE_MAX} are supported")
        self.texts = [segment.encode() for path in compiled for segment in path]
        self.segments = <lj_segment *>PyMem_Malloc((len(self.texts) + 1) * sizeof(lj_segment))
        self.first = <uint32_t *>PyMem_Malloc((len(compiled) + 1) * sizeof(uint32_t))
        if self.segments == NULL or self.first == NULL:
            raise MemoryError
        for i, text in enumerate(self.texts):
            is_index = text.isdigit() and len(text) < 10
            self.segments[i].text = <const uint8_t *><const char *>text
            self.segments[i].size = <size_t>len(text)
            self.segments[i].index = int(text) if is_index else -1
            self.segments[i].every = text == b"#"
        self.first[0] = 0
        for i, path in enumerate(compiled):
            self.first[i + 1] = self.first[i] + <uint32_t>len(path)
        self.native.segments = self.segments
        self.native.first = self.first
        self.native.patterns = <uint32_t>len(compiled)

    def __dealloc__(self):
        PyMem_Free(self.segments)
        PyMem_Free(self.first)


cdef bytes compare(bytes before, bytes after, Ignore ignore, uint32_t max_depth, bint report, int *different):
    """The changes object, or None without `report` or when nothing is different."""
    cdef const uint8_t *a = <const uint8_t *><const char *>before
    cdef const uint8_t *b = <const uint8_t *><const char *>after
    cdef size_t a_size = <size_t>len(before), b_size = <size_t>len(after)
    cdef lj_tree left, right
    cdef lj_out out
    cdef int code
    cdef bint in_after = False
    memset(&right, 0, sizeof(right))
    memset(&out, 0, sizeof(out))
    try:
        with nogil:
            code = lj_tree_parse(&left, a, a_size, max_depth)
            if code == 0:
                in_after = True
                code = lj_tree_parse(&right, b, b_size, max_depth)
            if code == 0:
                code = lj_tree_diff(&left, &right, &ignore.native, &out if report else NULL, different)
        if code:
            fail(code, right.scan.error_at - b if in_after else left.scan.error_at - a)
        if not report or not different[0]:
            return None
        return PyBytes_FromStringAndSize(<const char *>out.buffer.data, <Py_ssize_t>out.buffer.len)
    finally:
        lj_tree_free(&left)
        lj_tree_free(&right)
        lj_buffer_free(&out.buffer)


def equal(bytes a not None, bytes b not None, uint32_t max_depth=64) -> bool:
    cdef int different = 0
    compare(a, b, Ignore(), max_depth, False, &different)
    return not different


def changes(bytes before not None, bytes after not None, ignore=(), uint32_t max_depth=64):
    cdef int different = 0
    return compare(before, after, Ignore(ignore), max_depth, True, &different)


def record_hash(bytes record not None, ignore=(), uint32_t max_depth=64) -> bytes:
    cdef Ignore ignored = Ignore(ignore)
    cdef const uint8_t *start = <const uint8_t *><const char *>record
    cdef size_t size = <size_t>len(record)
    cdef lj_hasher hasher
    cdef lj_hash128 value
    cdef int code
    memset(&hasher, 0, sizeof(hasher))
    with nogil:
        code = lj_hash_document(&hasher, start, size, &ignored.native, max_depth, &value)
        lj_hasher_free(&hasher)
    if code:
        fail(code, hasher.scan.error_at - start)
    return PyBytes_FromStringAndSize(<const char *>&value, sizeof(value))
