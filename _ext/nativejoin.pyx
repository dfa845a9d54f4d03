"""The native level of the join engine: joins of equalities, evaluated without their SQL.

`NativeJoins` compiles descriptions (litejoin/plan/native.py and native_groups.py) into the structs of native_join.h
and native_grouped.h, where the work is done. The evaluator (evaluate.pyx) calls a compiled join by its address and gets the recomputed
keys and rows back. Of state.db only the groups of grouped joins are written here, in the caller's
transaction. One thread at a time.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from csqlite3 cimport *
from json_out cimport lj_put, lj_put_text
from map_hash cimport lj_set_map_secret
from native_grouped cimport *
from native_join cimport *
from native_sink cimport LJ_NATIVE_OK, LJ_NATIVE_STATE, LJ_NATIVE_UNSURE
from topic_host cimport Host, LJ_PATH_STEPS, lj_topic_slot

from litejoin._ext import bridge
from litejoin.errors import QueryError, StorageError, StorageFullError, StorageIOError

cdef dict FAST = {"sql": LJ_FAST_NONE, "key": LJ_FAST_KEY, "payload": LJ_FAST_PAYLOAD, "timestamp": LJ_FAST_TIMESTAMP,
             "timestamp_ms": LJ_FAST_TIMESTAMP_MS, "path": LJ_FAST_PATH}

cdef dict AGGREGATES = {"COUNT": LJ_COUNT, "SUM": LJ_SUM, "AVG": LJ_AVG, "TOTAL": LJ_TOTAL, "MIN": LJ_MIN,
                        "MAX": LJ_MAX}

cdef tuple GROUP_SQL = (
    "SELECT body FROM groups WHERE join_id = ?1 AND key = ?2 AND terms = ?3",
    "INSERT INTO groups(join_id, key, terms, body) VALUES(?1, ?2, ?3, ?4)"
    " ON CONFLICT DO UPDATE SET body = excluded.body",
    "DELETE FROM groups WHERE join_id = ?1 AND key = ?2 AND terms = ?3",
    "SELECT terms, body FROM groups WHERE join_id = ?1 AND key = ?2",
)


cdef class NativeJoins:
    """The native joins over one `TopicTables`, which is kept alive. `define` all topics before.

    `state` is the apsw connection of state.db, open until `close`. `cache_bytes`: memory for the newest
    rows of topics that are looked up by key.
    """

    cdef object tables
    cdef object texts
    cdef Host *host
    cdef LjRows rows
    cdef LjJoin **joins
    cdef int n_joins
    cdef LjGrouped **grouped
    cdef int n_grouped
    cdef object state
    cdef sqlite3 *state_db

    def __cinit__(self, tables, state, size_t cache_bytes):
        lj_set_api(<size_t>bridge.api_pointer())
        lj_set_map_secret(bridge.map_secret())
        self.tables = tables
        self.state = state
        self.state_db = <sqlite3 *><size_t>state.sqlite3_pointer()
        self.texts = []
        self.host = <Host *><size_t>tables.pointer()
        memset(&self.rows, 0, sizeof(LjRows))
        self.rows.host = self.host
        # The rest is for the map over the ring, 16 to 32 bytes a row.
        self.rows.cache.bytes = (cache_bytes // 4 * 3) & ~<size_t>7
        self.rows.n_topics = self.host.n_topics
        self.rows.cached = <uint8_t *>calloc(self.host.n_topics + 1, 1)
        self.rows.reads = <sqlite3_stmt **>calloc(
            (<size_t>self.host.n_topics * self.host.shards + 1) * 2, sizeof(sqlite3_stmt *))
        self.rows.nets = <LjNet *>calloc(self.host.n_topics + 1, sizeof(LjNet))
        self.rows.places = <LjPlaces *>calloc(self.host.n_topics + 1, sizeof(LjPlaces))
        if self.rows.cached == NULL or self.rows.reads == NULL or self.rows.nets == NULL or self.rows.places == NULL:
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
        for i in range(self.n_grouped):
            lj_grouped_free(self.grouped[i])
        free(self.grouped)
        self.grouped = NULL
        self.n_grouped = 0
        lj_rows_free(&self.rows)

    def begin(self, fresh: bool) -> None:
        """Take the applied changes into the cache of rows. `fresh`: the shards show the state right after
        these changes and nothing later, so rows of the changes, the cache and the shards may be mixed."""
        cdef int is_fresh = fresh
        with nogil:
            lj_rows_begin(&self.rows, is_fresh)

    def load(self) -> None:
        """Note where the rows are of topics that joins look up by key; all joins have been added. Blocking, some
        0.3 us a row."""
        with nogil:
            lj_rows_load(&self.rows)

    def place_bytes(self) -> int:
        """Memory of what is noted of places."""
        return lj_rows_place_bytes(&self.rows)

    def cache_figures(self) -> dict:
        """Of the row cache: bytes in use, look-ups that found a row in it and that did not. Any thread."""
        cdef const LjCache *cache = &self.rows.cache
        return {"bytes": lj_cache_bytes(cache), "lookups": {"hit": cache.hits, "miss": cache.misses}}

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
        self._outputs(join, plan.outputs, columns, json_columns)
        return <size_t>&join.base

    cdef _outputs(self, LjJoin *join, places, columns, json_columns):
        cdef int i
        for i, place in enumerate(places):
            join.n_outputs = i + 1
            join.outputs[i].place = self._place(place)
            join.outputs[i].is_json = columns[i] in json_columns
            name = columns[i].encode()
            lj_put(&join.outputs[i].name, <const char *>b"," if i else <const char *>b"{", 1)
            lj_put_text(&join.outputs[i].name, name, len(name))
            lj_put(&join.outputs[i].name, <const char *>b":", 1)

    # -- grouped joins

    def add_grouped(self, plan, numbers, join_id: int, key_index: int, columns, json_columns=()) -> int:
        """The same for a nodes.GroupedPlan, whose groups are kept in state.db under `join_id`. Raises QueryError
        when SQLite refuses a program or the result row."""
        cdef LjGrouped *made = <LjGrouped *>calloc(1, sizeof(LjGrouped))
        cdef LjGrouped **more = <LjGrouped **>realloc(self.grouped, (self.n_grouped + 1) * sizeof(LjGrouped *))
        cdef int i
        if made == NULL or more == NULL:
            free(made)
            raise MemoryError
        self.grouped = more
        self.grouped[self.n_grouped] = made
        self.n_grouped += 1
        made.base.read = &lj_grouped_read
        made.rows = &self.rows
        made.roots = <LjRoot *>calloc(len(plan.roots), sizeof(LjRoot))
        if made.roots == NULL:
            raise MemoryError
        if not 0 < plan.terms <= LJ_TERMS or len(plan.aggregates) > LJ_ARGUMENTS:
            raise ValueError("too many terms or aggregates")
        for i, root in enumerate(plan.roots):
            made.n_refs = i + 1
            self._root(&made.roots[i], root, numbers, plan.terms)
        made.key_ref = plan.key_reference
        made.reads_rows = plan.reads_rows
        made.by = self._finder(plan.by)
        self._groups(&made.groups, plan, join_id)
        self._shown(made, plan, key_index, columns, json_columns)
        made.affect = self._statement(self.host.db, 'INSERT OR IGNORE INTO "lj:affected"(v) VALUES(?1)')
        return <size_t>&made.base

    cdef _root(self, LjRoot *root, plan, numbers, int terms):
        cdef int i
        cdef LjJoin *walk = &root.walk
        walk.refs = <LjRef *>calloc(len(plan.references), sizeof(LjRef))
        if walk.refs == NULL:
            raise MemoryError
        for i, reference in enumerate(plan.references):
            walk.n_refs = i + 1
            root.number[i] = plan.numbers[i]
            self._reference(&walk.refs[i], reference, numbers[reference.topic])
        first = plan.references[0]
        self._reference(&root.now, first, numbers[first.topic])
        self._reference(&root.other, first, numbers[first.topic])
        self._reference(&root.none, first, numbers[first.topic])
        for i, place in enumerate(plan.values):
            if i < terms:
                root.terms[i] = self._place(place)
            elif i - terms < LJ_ARGUMENTS:
                root.arguments[i - terms] = self._place(place)
            else:
                raise ValueError("too many aggregates")
        root.core = plan.core
        root.on = self._checks(plan.on)
        root.n_on = len(plan.on)
        root.last = self._checks(plan.last)
        root.n_last = len(plan.last)
        if plan.probe is not None:
            root.probe = self._finder(plan.probe)
            root.source = self._place(plan.source)

    cdef _groups(self, LjGroups *groups, plan, join_id):
        cdef int i
        cdef sqlite3_stmt **statements[4]
        groups.n_terms = plan.terms
        groups.key_term = plan.key_term
        groups.n_arguments = len(plan.roots[0].values) - plan.terms
        groups.join_id = join_id
        for i, aggregate in enumerate(plan.aggregates):
            groups.n_aggregates = i + 1
            groups.aggregates[i].name = AGGREGATES[aggregate.name]
            groups.aggregates[i].argument = -1 if aggregate.value is None else aggregate.value
            if aggregate.value is None:
                continue
            if aggregate.name in ("SUM", "AVG", "TOTAL"):
                groups.arguments[aggregate.value].sums = 1
            elif aggregate.name == "MIN":
                groups.arguments[aggregate.value].least = 1
            elif aggregate.name == "MAX":
                groups.arguments[aggregate.value].greatest = 1
        statements[0] = &groups.select
        statements[1] = &groups.put
        statements[2] = &groups.remove
        statements[3] = &groups.of_key
        for i, sql in enumerate(GROUP_SQL):
            statements[i][0] = self._statement(self.state_db, sql)
        groups.number = self._statement(self.host.db, "SELECT sum(?1)")

    cdef _shown(self, LjGrouped *made, plan, int key_index, columns, json_columns):
        """The result row is read as the one reference of a join that has nothing to look for."""
        cdef LjJoin *shown = &made.shown
        shown.refs = <LjRef *>calloc(1, sizeof(LjRef))
        shown.outputs = <LjOutput *>calloc(len(columns) + 1, sizeof(LjOutput))
        if shown.refs == NULL or shown.outputs == NULL:
            raise MemoryError
        shown.n_refs = 1
        shown.refs[0].program = self._statement(self.host.db, plan.final_sql)
        shown.refs[0].n_values = sqlite3_column_count(shown.refs[0].program)
        if shown.refs[0].n_values != len(columns) or len(columns) > LJ_NATIVE_VALUES:
            raise QueryError("the result row of a group has other columns than the query")
        shown.key_value = key_index
        self._outputs(shown, [(0, i) for i in range(len(columns))], columns, json_columns)
        made.sink.context = made
        made.sink.want = lj_collect_want
        made.sink.row = lj_collect_row
        shown.sink = &made.sink

    cdef sqlite3_stmt *_statement(self, sqlite3 *db, str sql) except NULL:
        cdef sqlite3_stmt *stmt = NULL
        cdef bytes text = sql.encode()
        cdef int rc = sqlite3_prepare_v3(db, text, <int>len(text), SQLITE_PREPARE_PERSISTENT, &stmt, NULL)
        if rc != SQLITE_OK or stmt == NULL:
            raise QueryError(f"{sql}: {sqlite3_errmsg(db).decode()}")
        return stmt

    def rebuild(self, address: int) -> bool:
        """Make the groups of a grouped join anew from the topics; state.db holds none of them. False when a row
        cannot be computed: what was written is of no use. Raises StorageError and MemoryError."""
        cdef LjGrouped *grouped = <LjGrouped *><size_t>address
        cdef int failed
        with nogil:
            failed = lj_grouped_rebuild(grouped)
        if failed == LJ_NATIVE_STATE:
            rc = sqlite3_extended_errcode(self.state_db)
            kind = {SQLITE_FULL: StorageFullError, SQLITE_IOERR: StorageIOError}.get(rc & 0xFF, StorageError)
            raise kind(f"state.db: {sqlite3_errmsg(self.state_db).decode('utf-8', 'replace')}", extended=rc)
        if failed not in (LJ_NATIVE_OK, LJ_NATIVE_UNSURE):
            raise MemoryError
        return failed == LJ_NATIVE_OK

    def left(self, address: int) -> int:
        """How many keys the last read of a grouped join has left to the delta level, in "lj:affected"."""
        return (<LjGrouped *><size_t>address).n_unsure

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
            if ref.probe.by_key:  # NativeReference.is_looked_up_by_key
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
        cdef int slot = lj_topic_slot(self.host, number)
        if slot < 0:
            raise ValueError(f"no topic has the number {number}")
        return slot

    def close(self) -> None:
        """Finalize every statement, so that the connections can be closed. Idempotent."""
        self._free()
