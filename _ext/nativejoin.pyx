"""The native level of the join engine: joins of equalities, evaluated without their SQL.

`NativeJoins` compiles descriptions (litejoin/plan/native.py) into the structs of native_join.h, where the
work is done. The evaluator (evaluate.pyx) calls a compiled join by its address and gets the recomputed
keys and rows back; this module never writes. One thread at a time.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from csqlite3 cimport *
from json_out cimport lj_put, lj_put_text
from native_join cimport *
from topic_host cimport Host, LJ_PATH_STEPS

from litejoin._ext import bridge
from litejoin.errors import QueryError

cdef dict FAST = {"sql": LJ_FAST_NONE, "key": LJ_FAST_KEY, "payload": LJ_FAST_PAYLOAD, "timestamp": LJ_FAST_TIMESTAMP,
             "timestamp_ms": LJ_FAST_TIMESTAMP_MS, "path": LJ_FAST_PATH}


cdef class NativeJoins:
    """The native joins over one `TopicTables`, which is kept alive. `define` all topics before.

    `cache_bytes`: the ring of newest rows of topics that are looked up by key.
    """

    cdef object tables
    cdef object texts
    cdef Host *host
    cdef LjRows rows
    cdef LjJoin **joins
    cdef int n_joins

    def __cinit__(self, tables, size_t cache_bytes):
        lj_set_api(<size_t>bridge.api_pointer())
        self.tables = tables
        self.texts = []
        self.host = <Host *><size_t>tables.pointer()
        memset(&self.rows, 0, sizeof(LjRows))
        self.rows.host = self.host
        self.rows.cache.bytes = cache_bytes & ~<size_t>7
        self.rows.n_topics = self.host.n_topics
        self.rows.cached = <uint8_t *>calloc(self.host.n_topics + 1, 1)
        self.rows.reads = <sqlite3_stmt **>calloc(
            (<size_t>self.host.n_topics * self.host.shards + 1) * 2, sizeof(sqlite3_stmt *))
        if self.rows.cached == NULL or self.rows.reads == NULL:
            raise MemoryError

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        cdef int i
        for i in range(self.n_joins):
            lj_native_free(self.joins[i])
        free(self.joins)
        self.joins = NULL
        self.n_joins = 0
        lj_rows_free(&self.rows)

    def begin(self, fresh: bool) -> None:
        """Take the applied changes into the cache of rows. `fresh`: the shards show the state right after
        these changes and nothing later, so rows of the changes, the cache and the shards may be mixed."""
        cdef int is_fresh = fresh
        with nogil:
            lj_rows_begin(&self.rows, is_fresh)

    def add(self, plan, numbers, columns, json_columns=()) -> int:
        """Compile one join (a nodes.NativePlan) over topics with these catalogue numbers; returns the address that Evaluator.refresh_native takes,
        valid until `close`. Raises QueryError when SQLite refuses a program."""
        cdef LjJoin *join = <LjJoin *>calloc(1, sizeof(LjJoin))
        cdef LjJoin **more = <LjJoin **>realloc(self.joins, (self.n_joins + 1) * sizeof(LjJoin *))
        cdef int i
        if join == NULL or more == NULL:
            free(join)
            raise MemoryError
        self.joins = more
        self.joins[self.n_joins] = join
        self.n_joins += 1
        join.base.read = &lj_native_read
        join.rows = &self.rows
        if not 0 < len(plan.references) <= LJ_NATIVE_REFS:
            raise ValueError("too many references")
        join.refs = <LjRef *>calloc(len(plan.references), sizeof(LjRef))
        join.outputs = <LjOutput *>calloc(len(plan.outputs) + 1, sizeof(LjOutput))
        if join.refs == NULL or join.outputs == NULL:
            raise MemoryError
        for i, reference in enumerate(plan.references):
            join.n_refs = i + 1
            self._reference(&join.refs[i], reference, numbers[reference.topic])
        join.by = self._finder(plan.by)
        join.key_value = plan.key_value
        for i, place in enumerate(plan.outputs):
            join.n_outputs = i + 1
            join.outputs[i].place = self._place(place)
            join.outputs[i].is_json = columns[i] in json_columns
            name = columns[i].encode()
            lj_put(&join.outputs[i].name, <const char *>b"," if i else <const char *>b"{", 1)
            lj_put_text(&join.outputs[i].name, name, len(name))
            lj_put(&join.outputs[i].name, <const char *>b":", 1)
        return <size_t>&join.base

    cdef _reference(self, LjRef *ref, reference, int number):
        cdef int i, rc
        cdef bytes sql = reference.program.encode()
        ref.slot = self._slot(number)
        ref.outer = reference.outer
        if not 0 < len(reference.values) <= LJ_NATIVE_VALUES:
            raise ValueError("too many values")
        ref.all_fast = 1
        for i, value in enumerate(reference.values):
            ref.n_values = i + 1
            ref.fast[i] = FAST[value.kind]
            ref.as_text[i] = value.as_text
            if ref.fast[i] == LJ_FAST_NONE:
                ref.all_fast = 0
            elif ref.fast[i] == LJ_FAST_PATH:
                self._path(ref, i, value.path)
        rc = sqlite3_prepare_v3(self.host.db, sql, <int>len(sql), SQLITE_PREPARE_PERSISTENT, &ref.program, NULL)
        if rc != SQLITE_OK or sqlite3_column_count(ref.program) != ref.n_values:
            raise QueryError(f"values of {reference.alias}: {sqlite3_errmsg(self.host.db).decode()}")
        if reference.source is not None:
            ref.source = self._place(reference.source)
            ref.probe = self._finder(reference.probe)
            ref.parent = reference.source[0]
            ref.near = reference.near
            ref.step = self._finder(reference.step)
            if ref.probe.by_key:
                self.rows.cached[ref.slot] = 1
        ref.on = self._checks(reference.on)
        ref.n_on = len(reference.on)
        ref.where = self._checks(reference.where)
        ref.n_where = len(reference.where)

    cdef _path(self, LjRef *ref, int value, steps):
        cdef int i
        cdef bytes name
        if not 0 < len(steps) <= LJ_PATH_STEPS:
            raise ValueError("too many steps")
        ref.paths[ref.n_paths].value = value
        ref.paths[ref.n_paths].steps = len(steps)
        for i, step in enumerate(steps):
            name = step.encode()
            self.texts.append(name)
            ref.paths[ref.n_paths].names[i].at = name
            ref.paths[ref.n_paths].names[i].len = len(name)
        ref.n_paths += 1

    cdef LjFinder _finder(self, finder) except *:
        return LjFinder(finder.index is None, finder.index or 0, finder.is_text)

    cdef LjPlace _place(self, place) except *:
        cdef int ref = place[0]
        cdef int value = place[1]
        if not 0 <= ref < LJ_NATIVE_REFS or not 0 <= value < LJ_NATIVE_VALUES:
            raise ValueError("no such value")
        return LjPlace(ref, value)

    cdef LjCheck *_checks(self, checks) except? NULL:
        cdef int i
        cdef LjCheck *made = <LjCheck *>calloc(len(checks) + 1, sizeof(LjCheck))
        if made == NULL:
            raise MemoryError
        for i, check in enumerate(checks):
            made[i].left = self._place(check.left)
            made[i].right.ref = LJ_RIGHT_NONE
            if check.right is not None:
                made[i].right = self._place(check.right)
            elif check.literal is not None:
                made[i].right.ref = LJ_RIGHT_LITERAL
                self._literal(&made[i].literal, check.literal)
            made[i].is_text = check.is_text
        return made

    cdef _literal(self, LjValue *value, literal):
        cdef bytes text
        if isinstance(literal, str):
            text = literal.encode()
            self.texts.append(text)
            value.kind = SQLITE_TEXT
            value.text = text
            value.size = len(text)
        else:
            value.kind = SQLITE_INTEGER
            value.integer = literal

    cdef int _slot(self, int number) except -1:
        cdef int i
        for i in range(self.host.n_topics):
            if self.host.topics[i].number == number:
                return i
        raise ValueError(f"no topic has the number {number}")

    def close(self) -> None:
        """Finalize every statement, so that the connections can be closed. Idempotent."""
        self._free()
