"""Topics over both tiers as SQL relations: a virtual table of SQLite.

SQLite runs the user's query itself, so that every function and comparison is its own; it asks this
table for rows by key where its planner can, and for all rows otherwise. Few keys are looked up one
by one, which reads single row groups of the archive; after MAX_LOOKUPS keys, and for a scan, all
rows of the topic are brought into a temporary table once, and served from there.
Interface: https://www.sqlite.org/vtab.html
"""

from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from litejoin.archive.hot import TopicRow
from litejoin.archive.tiers import Tiers
from litejoin.store.sqlite import open_memory

MAX_LOOKUPS = 200
"""Keys of a topic that are looked up before all of its rows are read: some ms each."""

MODULE = "litejoin_tiers"
BY_KEY, IN_KEYS, SCAN = 1, 2, 0
LOOKUP_COST = 10.0
SCAN_COST = 1e9

_DECLARED = (
    "CREATE TABLE topic(key TEXT PRIMARY KEY, payload TEXT, timestamp INTEGER,"
    " timestamp_ms INTEGER HIDDEN, op TEXT HIDDEN, changes TEXT HIDDEN) WITHOUT ROWID"
)
_COLUMNS = "key, payload, timestamp_ms, op, changes"


class TierTables:
    """Makes the relations of a connection; the virtual table module of apsw."""

    def __init__(self, tiers: Tiers, numbers: dict[str, int]) -> None:
        """`numbers`: topics by name, in lower case."""
        self._tiers, self._numbers = tiers, numbers
        self.lookups = 0
        self.scanned: set[str] = set()
        """Topics that were read as a whole."""

    def open(self) -> apsw.Connection:
        """An in-memory database with every topic as a relation."""
        connection = open_memory()
        connection.create_module(MODULE, self, use_bestindex_object=True, read_only=True)
        for name in self._numbers:
            quoted = name.replace('"', '""')
            connection.execute(f'CREATE VIRTUAL TABLE "{quoted}" USING {MODULE}')
        return connection

    def Create(
        self, _connection: object, _module: str, _database: str, name: str, *_args: object
    ) -> tuple[str, Any]:
        return _DECLARED, _Table(self, name.lower(), self._numbers[name.lower()], self._tiers)

    Connect = Create

    def ShadowName(self, _name: str) -> bool:
        return False


class _Table:
    def __init__(self, owner: TierTables, name: str, topic: int, tiers: Tiers) -> None:
        self._owner, self._name, self._topic, self._tiers = owner, name, topic, tiers
        self._looked_up = 0
        self._known: dict[str, list[TopicRow]] = {}

    def BestIndexObject(self, plan: Any) -> bool:
        for number in range(plan.nConstraint):
            is_key = plan.get_aConstraint_iColumn(number) == 0
            is_equal = plan.get_aConstraint_op(number) == apsw.SQLITE_INDEX_CONSTRAINT_EQ
            # Another collation than the key's own compares other texts as equal.
            if not (is_key and is_equal and plan.get_aConstraint_usable(number)) or (
                plan.get_aConstraint_collation(number).upper() != "BINARY"
            ):
                continue
            plan.set_aConstraintUsage_argvIndex(number, 1)
            plan.idxNum = BY_KEY
            if plan.get_aConstraintUsage_in(number):
                plan.set_aConstraintUsage_in(number, True)
                plan.idxNum = IN_KEYS
            plan.estimatedCost, plan.estimatedRows = LOOKUP_COST, 1
            return True
        plan.idxNum, plan.estimatedCost, plan.estimatedRows = SCAN, SCAN_COST, 1_000_000
        return True

    def Open(self) -> "_Cursor":
        return _Cursor(self)

    def Disconnect(self) -> None:
        pass

    Destroy = Disconnect

    def rows(self, kind: int, arguments: Sequence[Any]) -> Iterator[TopicRow]:
        """The rows of one pass."""
        given = [] if kind == SCAN else arguments[0] if kind == IN_KEYS else arguments[:1]
        wanted = {value for value in given if value is not None}
        # A number, where the comparison was made one of numbers: '5' and '5.0' are equal to it.
        if kind == SCAN or not all(isinstance(value, str) for value in wanted):
            self._owner.scanned.add(self._name)
            spool = self._tiers.all_rows(self._topic)
            return map(TopicRow._make, spool.execute(f"SELECT {_COLUMNS} FROM rows"))
        return self._by_key(sorted(wanted))

    def _by_key(self, keys: Sequence[str]) -> Iterator[TopicRow]:
        new = [key for key in keys if key not in self._known]
        if self._looked_up + len(new) > MAX_LOOKUPS:
            self._owner.scanned.add(self._name)
            spool = self._tiers.all_rows(self._topic)
            sql = f"SELECT {_COLUMNS} FROM rows WHERE key = ?"
            return (TopicRow._make(row) for key in keys for row in spool.execute(sql, (key,)))
        self._looked_up += len(new)
        self._owner.lookups += len(new)
        if new:
            self._known.update({key: [] for key in new})
            for row in self._tiers.lookup(self._topic, new):
                self._known[row.key].append(row)
        return iter([row for key in keys for row in self._known[key]])


class _Cursor:
    def __init__(self, table: _Table) -> None:
        self._table = table
        self._rows: Iterator[TopicRow] = iter(())
        self._row: TopicRow | None = None

    def Filter(self, kind: int, _name: object, arguments: Sequence[Any]) -> None:
        self._rows = self._table.rows(kind, arguments)
        self.Next()

    def Next(self) -> None:
        self._row = next(self._rows, None)

    def Eof(self) -> bool:
        return self._row is None

    def Column(self, number: int) -> object:
        row = self._row
        assert row is not None
        if number < 2:
            return row[number]
        return row.timestamp_ms // 1000 if number == 2 else row[number - 1]

    def Close(self) -> None:
        self._rows = iter(())
