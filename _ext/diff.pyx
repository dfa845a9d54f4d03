"""Compares JSON records: equal or not, what changed, a hash that equal records share, and whole polls.

Called by the api source; `Snapshot` once per page of a poll, on a pool thread. The C is in json_hash.h,
json_tree.h and poll_set.h. Twins: tests/reference/diff.py and tests/reference/poll.py.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from buffer cimport lj_buffer_free
from gjson_path cimport LJ_KEY_MISSING, LJ_KEY_TYPE, lj_gjson, lj_gjson_load
from json_diff cimport (
    LJ_IGNORE_MAX, lj_hash128, lj_hash_document, lj_hasher, lj_hasher_free, lj_ignore, lj_out, lj_segment,
    lj_tree, lj_tree_diff, lj_tree_free, lj_tree_parse)
from json_fault cimport LJ_FAULT_MEMORY, LJ_FAULT_PATH, LJ_FAULT_SHAPE, lj_fault_text
from poll_set cimport (
    LJ_CREATED, LJ_NO_ENTRY, LJ_UPDATED, lj_change, lj_entry, lj_pack, lj_page, lj_page_apply, lj_page_compare,
    lj_page_free, lj_page_pack, lj_set, lj_set_begin, lj_set_entry, lj_set_finish, lj_set_free, lj_set_slot)

from litejoin.errors import JsonError, PathError


cdef fail(int code, Py_ssize_t offset):
    if code == LJ_FAULT_MEMORY:
        raise MemoryError
    text = lj_fault_text(code).decode()
    if code == LJ_FAULT_PATH or code == LJ_FAULT_SHAPE:
        raise JsonError(text, offset=offset)
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


cdef class Page:
    """One page of a poll, compared; keeps its body alive. Made by Snapshot.compare."""

    cdef lj_page native
    cdef Snapshot snapshot
    cdef const unsigned char[::1] body

    def __init__(self):
        raise TypeError("pages are made by Snapshot.compare")

    def __dealloc__(self):
        lj_page_free(&self.native)

    def __len__(self):
        return self.native.count

    @property
    def records(self):
        return self.native.records

    @property
    def created(self):
        return self.native.created

    @property
    def updated(self):
        return self.native.updated

    @property
    def unchanged(self):
        cdef lj_page *p = &self.native
        return p.records - p.created - p.updated - p.duplicates - p.keyless

    @property
    def duplicates(self):
        return self.native.duplicates

    @property
    def keyless(self):
        return self.native.keyless

    @property
    def keyless_reason(self):
        if not self.native.keyless:
            return ""
        what = "empty, longer than 512 bytes or holds NUL"
        if self.native.keyless_code == LJ_KEY_MISSING:
            what = "missing"
        elif self.native.keyless_code == LJ_KEY_TYPE:
            what = "not a string or a number"
        return f"the key of record {self.native.first_keyless} is {what}"

    @property
    def single(self):
        return bool(self.native.single)

    cdef bytes key(self, uint32_t entry):
        cdef lj_entry *e = &self.snapshot.native.entries[entry]
        return PyBytes_FromStringAndSize(
            <const char *>self.snapshot.native.keys.data + e.key_at, <Py_ssize_t>e.key_size)

    def changes(self):
        cdef uint32_t i
        cdef lj_change *c
        out = []
        for i in range(self.native.count):
            c = &self.native.changes[i]
            if not c.dropped:
                record = PyBytes_FromStringAndSize(<const char *>c.start, <Py_ssize_t>c.size)
                out.append((self.key(c.entry), c.op == LJ_CREATED, record))
        return out

    def updated_keys(self, uint32_t start, uint32_t stop):
        cdef uint32_t i
        out = []
        for i in range(start, min(stop, self.native.count)):
            if self.native.changes[i].op == LJ_UPDATED and not self.native.changes[i].dropped:
                out.append(self.key(self.native.changes[i].entry))
        return out

    def chunk(self, uint32_t start, uint64_t max_bytes, uint32_t max_records) -> int:
        cdef uint64_t size = 0
        cdef uint32_t i = start
        while i < self.native.count and i - start < max_records:
            size += self.native.changes[i].size
            if i > start and size > max_bytes:
                break
            i += 1
        return i

    def pack(
        self, uint32_t start, uint32_t stop, *, int topic, int state, long long timestamp_ms,
        bint keep_records, bint emit, list befores=None,
    ):
        cdef lj_pack how
        cdef lj_out out
        cdef int64_t rows = -1
        cdef uint64_t same = 0
        cdef size_t count = <size_t>len(befores) if befores is not None else 0
        cdef const uint8_t **texts = NULL
        cdef size_t *sizes = NULL
        if self.snapshot is None:
            raise ValueError("not a page of a snapshot")
        if befores is not None and count != <size_t>len(self.updated_keys(start, stop)):
            raise ValueError("one stored record (or None) is needed for each updated key")
        how.topic = topic
        how.state = state
        how.timestamp_ms = timestamp_ms
        how.keep_records = keep_records
        how.emit = emit
        memset(&out, 0, sizeof(out))
        texts = <const uint8_t **>calloc(count + 1, sizeof(uint8_t *))
        sizes = <size_t *>calloc(count + 1, sizeof(size_t))
        try:
            if texts != NULL and sizes != NULL:
                for i in range(count):
                    if befores[i] is not None:
                        texts[i] = <const uint8_t *><const char *>(<bytes>befores[i])
                        sizes[i] = <size_t>len(<bytes>befores[i])
                with nogil:
                    rows = lj_page_pack(
                        &self.snapshot.native, &self.native, start, stop, &how, texts if count else NULL, sizes,
                        &out, &same)
            if rows < 0:
                raise MemoryError
            return PyBytes_FromStringAndSize(<const char *>out.buffer.data, <Py_ssize_t>out.buffer.len), rows, same
        finally:
            free(texts)
            free(sizes)
            lj_buffer_free(&out.buffer)


cdef class Snapshot:
    """The records of an upstream as they were last seen; one thread at a time."""

    cdef lj_set native
    cdef Ignore ignore
    cdef list programs

    def __cinit__(self, bytes response not None, keys, ignore=(), uint32_t max_depth=64, uint64_t seed=0, bint first_wins=False):
        self.native.first_wins = first_wins
        self.ignore = Ignore(ignore)
        self.programs = [response, *keys]
        self.native.ignore = &self.ignore.native
        self.native.max_depth = min(max_depth, 1024)
        self.native.seed = seed
        self.load_program(&self.native.response, response)
        self.native.key_paths = <lj_gjson *>calloc(len(self.programs), sizeof(lj_gjson))
        if self.native.key_paths == NULL:
            raise MemoryError
        for program in keys:
            self.load_program(&self.native.key_paths[self.native.key_count], program)
            self.native.key_count += 1
        if not self.native.key_count:
            raise PathError("a key has at least one path")

    cdef load_program(self, lj_gjson *place, bytes program):
        if lj_gjson_load(place, <const uint8_t *><const char *>program, <size_t>len(program)):
            raise PathError("not a compiled path")

    def __dealloc__(self):
        lj_set_free(&self.native)

    def __len__(self):
        return self.native.known

    @property
    def memory_bytes(self):
        cdef lj_set *s = &self.native
        slots = 4 * (s.mask + 1) if s.slots != NULL else 0
        return s.capacity * sizeof(lj_entry) + slots + s.keys.cap + 4 * s.order_count

    def load(self, pairs):
        cdef uint32_t entry
        cdef bytes key, digest
        for key, digest in pairs:
            if not 0 < len(key) <= 0xFFFF or len(digest) != 16:
                raise ValueError("a pair is a key of 1 to 65,535 bytes and a hash of 16")
            entry = lj_set_entry(&self.native, <const uint8_t *><const char *>key, <size_t>len(key))
            if entry == LJ_NO_ENTRY:
                raise MemoryError
            memcpy(&self.native.entries[entry].hash, <const char *>digest, 16)
            if not self.native.entries[entry].known:
                self.native.known += 1
            self.native.entries[entry].known = 1

    def begin(self):
        cdef int code
        with nogil:
            code = lj_set_begin(&self.native)
        if code:
            raise MemoryError

    def compare(self, const unsigned char[::1] body not None) -> Page:
        cdef Page page = Page.__new__(Page)
        cdef size_t size = <size_t>body.shape[0]
        cdef const uint8_t *start = &body[0] if size else <const uint8_t *>b""
        page.snapshot = self
        page.body = body
        with nogil:
            lj_page_compare(&self.native, &page.native, start, size)
        if page.native.code:
            fail(page.native.code, page.native.error_at - page.native.base)
        return page

    def apply(self, Page page not None, uint32_t start, uint32_t stop):
        if page.snapshot is not self:
            raise ValueError("the page belongs to another snapshot")
        lj_page_apply(&self.native, &page.native, start, stop)

    def finish(self):
        lj_set_finish(&self.native)

    cdef bint is_missing(self, uint32_t i):
        return self.native.entries[i].known and self.native.entries[i].seen != self.native.walk

    def missing(self):
        cdef uint32_t i
        cdef uint64_t counts[2]
        counts[0] = counts[1] = 0
        for i in range(self.native.count):
            if self.is_missing(i):
                counts[1 if self.native.entries[i].missed else 0] += 1
        return counts[0], counts[1]

    def missing_keys(self, bint agreed) -> list:
        cdef uint32_t i
        cdef lj_entry *e
        out = []
        for i in range(self.native.count):
            e = &self.native.entries[i]
            if self.is_missing(i) and (e.missed or not agreed):
                out.append(PyBytes_FromStringAndSize(<const char *>self.native.keys.data + e.key_at, <Py_ssize_t>e.key_size))
        return out

    def hold(self):
        cdef uint32_t i
        for i in range(self.native.count):
            if self.is_missing(i):
                self.native.entries[i].missed = 1

    def forget(self, keys):
        cdef bytes key
        cdef uint32_t slot
        cdef lj_entry *e
        for key in keys:
            if self.native.slots == NULL:
                return
            slot = lj_set_slot(&self.native, <const uint8_t *><const char *>key, <size_t>len(key))
            if not self.native.slots[slot]:
                continue
            e = &self.native.entries[self.native.slots[slot] - 1]
            if e.known:
                self.native.known -= 1
            e.known = e.missed = 0
