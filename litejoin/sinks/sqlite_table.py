"""One table of the sqlite sink: the current rows of one join, with a column for each of its
columns.

Called on the sink's thread, inside its transaction. Never commits and never reads what users made.

    column   value
    _key     the result's key as JSON text: tells null, 5 and "5" apart
    _row     index of the row in its result
    _seq     `seq` of the result
    key      the key as a plain value, unless the join has a column of that name
    ...      the join's own columns; what is new gets a column of its own

Values keep their JSON types: text, numbers, NULL; true and false are 1 and 0; objects and arrays
are their JSON text, and so are whole numbers beyond 64 bits.
"""

from collections.abc import Iterable, Mapping

import apsw
import msgspec

from litejoin.errors import SinkError
from litejoin.records import Result

Value = str | int | float | None

INTERNAL = ("_key", "_row", "_seq")

_decode_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_text = msgspec.json.Decoder(str).decode

INT64 = range(-(2**63), 2**63)


class ResultTable:
    """The table of a join. Raises SinkError when a table of that name is not ours."""

    def __init__(self, db: apsw.Connection, name: str, columns: Iterable[str]) -> None:
        self._db = db
        self._name = _quoted(name)
        found = db.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
        self._columns: dict[str, str] = {}
        """Column of the join -> column of the table."""
        self._taken = {str(row[0]).casefold() for row in found}
        self.is_new = not found
        """There was no table of the name."""
        if not found:
            self._create()
        elif not self._taken.issuperset(INTERNAL):
            raise SinkError(
                f"table {name} exists and was not made by litejoin",
                hint="name another path or table in the sink's config",
            )
        self._columns = {str(row[0]): str(row[0]) for row in found if row[0] not in INTERNAL}
        self._inserts: dict[tuple[str, ...], str] = {}
        for column in ("key", *columns):
            self._column(column)

    def _create(self) -> None:
        self._db.execute(
            f"CREATE TABLE {self._name}(_key TEXT NOT NULL, _row INTEGER NOT NULL,"
            " _seq INTEGER NOT NULL, PRIMARY KEY(_key, _row))"
        )
        self._taken = set(INTERNAL)

    def put(self, result: Result) -> None:
        """Make the rows of a key those of its result; a delete has none.

        Raises apsw.Error, and ValueError for rows that no table can hold.
        """
        self._db.execute(f"DELETE FROM {self._name} WHERE _key = ?", (result.identity,))
        key = plain_value(result.key.encode())
        for number, row in enumerate(_decode_rows(result.rows)):
            self._check_width(row)
            values: dict[str, Value] = {"key": key}
            for name, raw in row.items():
                values[self._column(name)] = plain_value(bytes(raw))
            if result.start_ms is not None:
                values |= {self._column("window_start"): result.start_ms}
                values |= {self._column("window_end"): result.end_ms}
            bindings = (result.identity, number, result.pos, *values.values())
            self._db.execute(self._insert(values), bindings)

    def _check_width(self, row: Mapping[str, object]) -> None:
        # Before the first column is added: adding them one by one up to the limit takes seconds.
        new = sum(name not in self._columns for name in row)
        if new and len(self._taken) + new > self._db.limit(apsw.SQLITE_LIMIT_COLUMN):
            raise ValueError(
                f"too many columns: {len(self._taken)} in the table and {new} new ones"
            )

    def clear(self) -> None:
        """Forget all rows: they belong to another history."""
        self._db.execute(f"DELETE FROM {self._name}")

    def _insert(self, values: Mapping[str, Value]) -> str:
        names = tuple(values)
        sql = self._inserts.get(names)
        if sql is None:
            columns = ", ".join((*INTERNAL, *map(_quoted, names)))
            marks = ", ".join("?" * (len(names) + len(INTERNAL)))
            sql = f"INSERT INTO {self._name}({columns}) VALUES({marks})"
            self._inserts[names] = sql
        return sql

    def _column(self, name: str) -> str:
        """The table's column for a column of the join, added when it is new."""
        column = self._columns.get(name)
        if column is not None:
            return column
        if "\0" in name:
            raise ValueError("a column name with a NUL character")
        column, number = name, 2
        while column.casefold() in self._taken and column.casefold() != "key":
            # SQLite's names have no case: `Total` beside `total` needs another one.
            column, number = f"{name}_{number}", number + 1
        if column.casefold() not in self._taken:
            self._db.execute(f"ALTER TABLE {self._name} ADD COLUMN {_quoted(column)}")
            self._taken.add(column.casefold())
        elif column.casefold() == "key":
            column = "key"
        self._columns[name] = column
        return column


def plain_value(raw: bytes) -> Value:
    """A JSON value as SQLite stores it; `raw` is one valid JSON value without space around it."""
    first = raw[:1]
    if first == b'"':
        return _decode_text(raw)
    if first in (b"{", b"["):
        return raw.decode()
    if first in (b"t", b"f", b"n"):
        return {b"t": 1, b"f": 0, b"n": None}[first]
    if b"." in raw or b"e" in raw or b"E" in raw:
        return float(raw)
    number = int(raw)
    return number if number in INT64 else raw.decode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
