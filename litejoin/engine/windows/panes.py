"""Partial results of short spans, so that a sliding window does not read its messages again.

    window_pane_state   join_id, definition      what the panes of a window hold
    panes_<join_id>     level, pane, part_null, part, n0, g0, .., c, and of each value: count,
    sums..

A pane of level 0 is as long as the greatest common divisor of size and slide; one of the next level
holds FAN of them, and so on up to the size: a span is covered by a few panes of each level, not by
thousands. Fresh messages are aggregated once, by one statement, and added to their pane of every
level. Merging gives what the query would give over the messages, or nothing where that is not
certain (see `exact`): then the query runs.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from litejoin.engine.windows.buffer import NOWHERE
from litejoin.engine.windows.exact import MAX_INTEGER, MAX_SUM, fits_sql, limbs_sql, real_sum
from litejoin.engine.windows.query import Value, quoted
from litejoin.engine.windows.spans import Span
from litejoin.plan.nodes import PaneAggregate, PanePlan
from litejoin.store.sqlite import open_memory

FAN = 16
MAX_LEVELS = 6

SCHEMA = """
CREATE TABLE IF NOT EXISTS window_pane_state(
  join_id INTEGER PRIMARY KEY, definition TEXT NOT NULL);
"""


Rows = list[tuple[Value, ...]] | None
"""What the query gives; None where only the messages can tell."""


@dataclass(frozen=True, slots=True)
class Column:
    """A partial result: its SQL over the values, and how two of them are merged."""

    name: str
    sql: str
    merge: str


def _added(name: str, sql: str) -> Column:
    return Column(name, f"coalesce(sum({sql}), 0)", "sum")


def value_columns(number: int) -> list[Column]:
    """The partial results of one value: count, exact sums, and extremes."""
    v = f"v{number}"
    kind = f"typeof({v})"
    real = f"CASE WHEN {kind} = 'real' THEN {v} END"
    high, middle, low = limbs_sql(v)
    is_fit = f"{kind} = 'real' AND {fits_sql(v)}"
    is_whole = f"({kind} = 'integer' AND {v} BETWEEN {-MAX_INTEGER} AND {MAX_INTEGER})"
    return [
        Column(f"c{number}", f"count({v})", "sum"),
        _added(f"i{number}", f"CASE WHEN {is_whole} THEN {v} END"),
        _added(f"r{number}", f"{kind} = 'real'"),
        *(
            _added(f"{name}{number}", f"CASE WHEN {is_fit} THEN {limb} END")
            for name, limb in (("h", high), ("m", middle), ("l", low))
        ),
        Column(f"s{number}", f"total(CASE WHEN {is_whole} OR {kind} = 'real' THEN abs({v}) END)",
               "total"),
        # Values that sum() takes from a text or a blob, and those with too many bits.
        _added(f"x{number}",
               f"{kind} <> 'null' AND NOT {is_whole} AND NOT coalesce({is_fit}, 0)"),
        Column(f"a{number}", f"min({v})", "min"),
        Column(f"z{number}", f"max({v})", "max"),
        # 1 and 1.0 are equal: which of them an extreme is depends on the order.
        _added(f"w{number}", f"coalesce({real} = CAST({real} AS INTEGER), 0)"),
        _added(f"n{number}i", f"{kind} = 'integer'"),
    ]  # fmt: skip


class Panes:
    """The panes of one window. One thread; the caller's transactions on `connection`."""

    def __init__(
        self,
        connection: apsw.Connection,
        join_id: int,
        plan: PanePlan,
        width_ms: int,
        size_ms: int,
        offset_ms: int,
        partition: str | None,
    ) -> None:
        self._db, self._join_id, self._plan = connection, join_id, plan
        self._table = f"panes_{join_id}"
        self._shift_ms = offset_ms % width_ms
        self._widths = [width_ms]
        while len(self._widths) < MAX_LEVELS and self._widths[-1] * FAN <= size_ms:
            self._widths.append(self._widths[-1] * FAN)
        self._partition = partition or "NULL"
        kinds = [f"typeof(g{number}) = 'real'" for number in range(len(plan.groups))]
        self._columns = [
            Column("c", "count(*)", "sum"),
            # 1 and 1.0 are one group, shown as the one that came first: only messages tell.
            Column("f", f"sum({' OR '.join(kinds) or '0'})", "sum"),
        ]
        for number in range(len(plan.values)):
            self._columns += value_columns(number)
        self._keys = ["part_null", "part"]
        for number in range(len(plan.groups)):
            self._keys += [f"n{number}", f"g{number}"]
        self._host = open_memory()
        types = [f"g{number} {kind}" for number, kind in enumerate(plan.group_types)]
        fields = [*types, *(f"a{number}" for number in range(len(plan.aggregates)))]
        self._host.execute(f"CREATE TABLE merged({', '.join(fields)})")
        marks = ", ".join("?" * len(fields))
        self._fill = f"INSERT INTO merged VALUES({marks})"

    def prepare(self, definition: str, fill: Callable[[], None]) -> None:
        """Make the table; if it holds something else or nothing, `fill` adds what there is."""
        self._db.execute(SCHEMA)
        stored = self._db.execute(
            "SELECT definition FROM window_pane_state WHERE join_id = ?", (self._join_id,)
        ).fetchone()
        if stored is not None and stored[0] == definition:
            return
        names = ", ".join([*self._keys, *(column.name for column in self._columns)])
        keys = ", ".join(["level", "pane", *self._keys])
        with self._db:
            self._db.execute(f"DROP TABLE IF EXISTS {self._table}")
            self._db.execute(
                f"CREATE TABLE {self._table}(level INTEGER, pane INTEGER, {names},"
                f" PRIMARY KEY({keys})) WITHOUT ROWID"
            )
            fill()
            self._db.execute(
                "INSERT OR REPLACE INTO window_pane_state VALUES(?, ?)",
                (self._join_id, definition),
            )

    def rebuild(self, definition: str, fill: Callable[[], None]) -> None:
        """Make the panes anew."""
        self.forget()
        self.prepare(definition, fill)

    def forget(self) -> None:
        """Let the next start make the panes anew."""
        self._db.execute("DELETE FROM window_pane_state WHERE join_id = ?", (self._join_id,))

    # -- messages

    def add(self, table: str, from_ms: int, left_out: Sequence[int] = ()) -> None:
        """Aggregate the messages of a table from a time on into their panes, but not those of some
        numbers.

        Raises apsw.SQLError when a value cannot be worked out for one of them: the panes are then
        of no use until `rebuild`.
        """
        base = self._base(table, "time_ms >= ?1", left_out)
        self._db.execute("DROP TABLE IF EXISTS temp.pane_base")
        self._db.execute(f"CREATE TEMP TABLE pane_base AS {base}", (from_ms,))
        keys = ", ".join(self._keys)
        merged = ", ".join(
            f"{column.merge}({column.name}) AS {column.name}" for column in self._columns
        )
        width = self._widths[0]
        for level, level_width in enumerate(self._widths):
            ratio = level_width // width
            pane = f"(pane + {ratio}) / {ratio} - 1"
            self._db.execute(
                f"INSERT INTO {self._table} SELECT {level}, {pane}, {keys}, {merged}"
                f" FROM pane_base WHERE 1 GROUP BY {pane}, {keys}"
                f" ON CONFLICT DO UPDATE SET {self._updates()}"
            )

    def check(self, table: str, span: Span, numbers: range) -> None:
        """Work the values out for the messages of a span with these numbers, and no more.

        Raises apsw.SQLError when that cannot be done.
        """
        which = "time_ms >= ?1 AND time_ms < ?2 AND n >= ?3 AND n < ?4"
        bindings = (span.start_ms, span.end_ms, numbers.start, numbers.stop)
        for _ in self._db.execute(self._base(table, which, ()), bindings):
            pass

    def _base(self, table: str, which: str, left_out: Sequence[int]) -> str:
        """SQL: partial results by pane of level 0."""
        plan, width = self._plan, self._widths[0]
        groups = [f"({group}) AS g{number}" for number, group in enumerate(plan.groups)]
        values = [f"({value}) AS v{number}" for number, value in enumerate(plan.values)]
        bucket = f"(lj_time - {self._shift_ms} + {width}) / {width} - 1"
        inner = ", ".join([f"{bucket} AS pane", "lj_part AS part", *groups, *values])
        where = f" WHERE {plan.where}" if plan.where else ""
        key_values = ["part IS NULL AS part_null", "ifnull(part, 0) AS part"]
        for number in range(len(plan.groups)):
            key_values += [f"g{number} IS NULL AS n{number}", f"ifnull(g{number}, 0) AS g{number}"]
        partial = ", ".join(f"{column.sql} AS {column.name}" for column in self._columns)
        group_by = ", ".join(str(number) for number in range(1, len(key_values) + 2))
        source = (
            f"SELECT key, payload, time_ms / 1000 AS timestamp, time_ms AS timestamp_ms,"
            f" 'created' AS op, NULL AS changes, time_ms AS lj_time, {self._partition} AS lj_part"
            f" FROM {table} WHERE {which} AND {self._partition} IS NOT {NOWHERE}"
        )
        without = f" AND n NOT IN ({', '.join(map(str, left_out))})" if left_out else ""
        base = (
            f"SELECT pane, {', '.join(key_values)}, {partial} FROM (SELECT {inner}"
            f" FROM ({source}{without}) AS {quoted(plan.alias)}{where} LIMIT -1 OFFSET 0)"
            f" GROUP BY {group_by}"
        )
        if (plan.where or left_out) and not plan.groups:
            # A count of nothing is a result as well: the panes of messages that do not count.
            nothing = ", ".join("NULL" if c.merge in ("min", "max") else "0" for c in self._columns)
            base += (
                f" UNION ALL SELECT DISTINCT {bucket}, lj_part IS NULL, ifnull(lj_part, 0),"
                f" {nothing} FROM ({source})"
            )
        return base

    def _updates(self) -> str:
        parts = []
        for column in self._columns:
            old, new = f"{self._table}.{column.name}", f"excluded.{column.name}"
            if column.merge in ("sum", "total"):
                parts.append(f"{column.name} = {old} + {new}")
            else:
                pair = f"{column.merge}({old}, {new})"
                parts.append(f"{column.name} = coalesce({pair}, {old}, {new})")
        return ", ".join(parts)

    def trim(self, before_ms: int) -> None:
        """Remove panes that end before a time."""
        for level, width in enumerate(self._widths):
            self._db.execute(
                f"DELETE FROM {self._table} WHERE level = ? AND pane < ?",
                (level, (before_ms - self._shift_ms) // width),
            )

    # -- results

    def rows(self, span: Span, partition: Value) -> Rows:
        """The query's rows over the messages of one partition in a span."""
        is_null = partition is None
        parts, bindings = [], list[Value]()
        for level, first, last in self._cover(span):
            # A list of panes, not a range: the partition is then looked up in each.
            parts.append(
                "level = ? AND pane IN (SELECT value FROM json_each(?)) AND part_null = ?"
                " AND part = ?"
            )
            panes = json.dumps([*range(first, last)])
            bindings += [level, panes, int(is_null), 0 if is_null else partition]
        try:
            found = self._answers(parts, bindings)
        except apsw.Error:
            return None  # an overflow: the query itself says which
        return found.get(partition, [] if self._plan.groups else None)

    def by_partition(self, span: Span) -> dict[Value, Rows]:
        """The same for each partition that has messages in a span, in one pass over its panes."""
        cover = self._cover(span)
        parts = ["level = ? AND pane >= ? AND pane < ?"] * len(cover)
        bindings: list[Value] = [number for part in cover for number in part]
        try:
            return self._answers(parts, bindings)
        except apsw.Error:
            sql = self._union("part_null, part", parts)
            rows = self._db.execute(f"SELECT DISTINCT * FROM ({sql})", bindings)
            return {None if is_null else part: None for is_null, part in rows}

    def _union(self, columns: str, parts: Sequence[str]) -> str:
        return " UNION ALL ".join(f"SELECT {columns} FROM {self._table} WHERE {p}" for p in parts)

    def _answers(self, parts: Sequence[str], bindings: Sequence[Value]) -> dict[Value, Rows]:
        merged = ", ".join(f"{column.merge}({column.name})" for column in self._columns)
        # The order in which SQLite gives the groups of the query itself.
        order = [f"n{number} DESC, g{number}" for number in range(len(self._plan.groups))]
        sql = (
            f"SELECT {', '.join(self._keys)}, {merged} FROM ({self._union('*', parts)})"
            f" GROUP BY {', '.join(self._keys)} ORDER BY {', '.join([*self._keys[:2], *order])}"
        )
        finals: dict[Value, Rows] = {}
        for is_null, part, *row in self._db.execute(sql, bindings):
            partition = None if is_null else part
            final, before = self._final(row), finals.setdefault(partition, [])
            if final is None or before is None:
                finals[partition] = None
            else:
                before.append(final)
        return {partition: self._answer(rows) for partition, rows in finals.items()}

    def _cover(self, span: Span) -> list[tuple[int, int, int]]:
        """(level, first pane, pane after the last) of the fewest panes that make up a span."""
        width = self._widths[0]
        low = (span.start_ms - self._shift_ms) // width
        high = (span.end_ms - self._shift_ms) // width
        found: list[tuple[int, int, int]] = []
        for level in range(len(self._widths)):
            if level + 1 == len(self._widths) or high - low < 2 * FAN:
                found.append((level, low, high))
                break
            up_low, up_high = -(-low // FAN), high // FAN
            found += [(level, low, up_low * FAN), (level, up_high * FAN, high)]
            low, high = up_low, up_high
        return [part for part in found if part[1] < part[2]]

    def _final(self, row: Sequence[Value]) -> tuple[Value, ...] | None:
        """Groups and aggregates of one merged row; None when one of them is not certain."""
        width = 2 * len(self._plan.groups)
        groups: list[Value] = []
        for number in range(0, width, 2):
            groups.append(None if row[number] else row[number + 1])
        cells = {
            column.name: value for column, value in zip(self._columns, row[width:], strict=True)
        }
        if cells["f"]:
            return None
        out: list[Value] = []
        for aggregate in self._plan.aggregates:
            known, value = _aggregate(aggregate, cells)
            if not known:
                return None
            out.append(value)
        return (*groups, *out)

    def _answer(self, finals: Rows) -> Rows:
        if finals is None:
            return None
        try:
            self._host.execute("DELETE FROM merged")
            self._host.executemany(self._fill, finals)
            return list(self._host.execute(self._plan.final_sql).fetchall())
        except apsw.Error:
            return None  # the query itself says what is wrong

    def close(self) -> None:
        """Close the database of the final query."""
        self._host.close()


def _aggregate(aggregate: PaneAggregate, cells: dict[str, Value]) -> tuple[bool, Value]:
    """Whether the aggregate is certain, and its value."""
    number = aggregate.value
    if number is None:
        return True, cells["c"] or 0
    if aggregate.name == "COUNT":
        return True, cells[f"c{number}"] or 0
    if aggregate.name in ("MIN", "MAX"):
        is_mixed = bool(cells[f"w{number}"]) and bool(cells[f"n{number}i"])
        return not is_mixed, cells[f"{'a' if aggregate.name == 'MIN' else 'z'}{number}"]
    return _sum(cells, number, mean=aggregate.name == "AVG")


def _sum(cells: dict[str, Value], number: int, *, mean: bool) -> tuple[bool, Value]:
    def whole(name: str) -> int:
        return int(str(cells[f"{name}{number}"] or 0))

    if any(isinstance(cells[f"{name}{number}"], float) for name in "ihml"):
        return False, None  # an integer that overflowed as panes were added up
    count, reals = whole("c"), whole("r")
    magnitude = float(str(cells[f"s{number}"] or 0.0))
    if whole("x") or magnitude >= MAX_SUM:
        return False, None
    if count == 0:
        return True, None
    if not reals:
        total = whole("i")
        return True, float(total) / count if mean else total
    found = real_sum(whole("i"), (whole("h"), whole("m"), whole("l")), count, magnitude)
    if found is None:
        return False, None
    return True, found / count if mean else found
