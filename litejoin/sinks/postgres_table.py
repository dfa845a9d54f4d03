"""One table of the postgres sink: the current rows of one join, with a column for each of its
columns.

Called on the sink's thread, inside its transaction. Never commits and never reads what users made.

    column   type       value
    _key     text       the result's key as JSON text: tells null, 5 and "5" apart
    _row     integer    index of the row in its result
    _seq     bigint     `seq` of the result
    key      as below   the key as a plain value, unless the join has a column of that name
    ...      as below   the join's own columns; a column is made when its first value comes
    window_start, window_end    numeric, Unix ms, for results of windows, whose _key has the start

A column is made as text, numeric, boolean or, for objects and arrays, jsonb, after its first value
that is not null. A column that exists already may have any type: values are sent as text and
PostgreSQL converts them. One that it cannot convert refuses the result (reject).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from psycopg import Connection, sql

from litejoin.errors import SinkError
from litejoin.records import Result

INTERNAL = ("_key", "_row", "_seq")

SYSTEM = frozenset(("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"))
"""Names that PostgreSQL keeps for itself."""

MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names, and two of them could become one."""

_decode_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_text = msgspec.json.Decoder(str).decode

TYPES = {b'"': "text", b"t": "boolean", b"f": "boolean", b"{": "jsonb", b"[": "jsonb"}
"""By the first byte of a JSON value; every other one is a number."""


class PostgresTable:
    """The table of a join. Raises SinkError when a table of that name is not ours."""

    def __init__(self, connection: Connection[Any], name: str) -> None:
        check_name(name, "table")
        self._connection = connection
        self._name = sql.Identifier(name)
        self._columns = self._found(name)
        self.is_new = not self._columns
        """There was no table of the name."""
        if not self._columns:
            self._create()
        elif not self._columns.issuperset(INTERNAL):
            raise SinkError(
                f"table {name} exists and was not made by litejoin",
                hint="name another table in the sink's config",
            )

    def _found(self, name: str) -> set[str]:
        rows = self._connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s))"
            " AND attnum > 0 AND NOT attisdropped",
            (name,),
        ).fetchall()
        return {str(row[0]) for row in rows}

    def _create(self) -> None:
        self._connection.execute(
            sql.SQL(
                "CREATE TABLE {}(_key text NOT NULL, _row integer NOT NULL, _seq bigint NOT NULL,"
                " PRIMARY KEY(_key, _row))"
            ).format(self._name)
        )
        self._columns = set(INTERNAL)

    def put(self, results: Sequence[Result]) -> None:
        """Make the rows of each key those of its last result; a delete has none.

        Raises psycopg.Error, and ValueError for rows that no table can hold.
        """
        newest = {result.identity: result for result in results}
        self._connection.execute(
            sql.SQL("DELETE FROM {} WHERE _key = ANY(%s)").format(self._name), (list(newest),)
        )
        groups: dict[tuple[str, ...], list[Sequence[str | int]]] = {}
        for result in newest.values():
            for number, row in enumerate(_decode_rows(result.rows)):
                values = self._values(result, row)
                groups.setdefault(tuple(values), []).append(
                    (result.identity, number, result.pos, *values.values())
                )
        for names, rows in groups.items():
            with self._connection.cursor() as cursor:
                cursor.executemany(self._insert(names), rows)

    def clear(self) -> None:
        """Forget all rows: they belong to another history."""
        self._connection.execute(sql.SQL("DELETE FROM {}").format(self._name))

    def _values(self, result: Result, row: Mapping[str, msgspec.Raw]) -> dict[str, str]:
        """Column -> value as text. Nulls are left out: they are what a column is without one."""
        raw = {"key": result.key.encode(), **{name: bytes(part) for name, part in row.items()}}
        if result.start_ms is not None:
            raw |= {"window_start": b"%d" % result.start_ms, "window_end": b"%d" % (
                result.end_ms or 0
            )}  # fmt: skip
        values = {}
        for name, value in raw.items():
            if value != b"null":
                values[self._column(name, value)] = plain_text(value)
        return values

    def _column(self, name: str, value: bytes) -> str:
        column = f"{name}_" if name in SYSTEM or name in INTERNAL else name
        if column not in self._columns:
            check_name(column, "column")
            kind = TYPES.get(value[:1], "numeric")
            self._connection.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} " + kind).format(
                    self._name, sql.Identifier(column)
                )
            )
            self._columns.add(column)
        return column

    def _insert(self, names: tuple[str, ...]) -> sql.Composed:
        # A % would be taken for a placeholder.
        columns = [sql.Identifier(name.replace("%", "%%")) for name in (*INTERNAL, *names)]
        marks = [sql.Placeholder()] * len(columns)
        return sql.SQL("INSERT INTO {}({}) VALUES({})").format(
            self._name, sql.SQL(", ").join(columns), sql.SQL(", ").join(marks)
        )


def plain_text(raw: bytes) -> str:
    """A JSON value as the text that PostgreSQL reads into a column of its type."""
    return _decode_text(raw) if raw[:1] == b'"' else raw.decode()


def check_name(name: str, what: str) -> None:
    """Raises ValueError for a name that PostgreSQL would cut or refuse."""
    if (
        not name
        or "\0" in name
        or (what == "table" and "%" in name)
        or len(name.encode()) > MAX_NAME_BYTES
    ):
        raise ValueError(
            f"a {what} name must have 1 to {MAX_NAME_BYTES} bytes, none of them NUL: {name[:40]!r}"
        )
