"""SQLite as the judge of user queries: validity, topics read, output columns, query plans.

Called by `delta` and `compile`. Works on an in-memory database that holds empty topic tables only,
under an authorizer that allows reading and nothing else. Never opens a file.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import apsw

from litejoin._ext.topic import TopicTables
from litejoin.plan.collations import refuse_hidden_collation
from litejoin.plan.sql_errors import BadQuery, SqlFinding, denied, finding_of
from litejoin.plan.tokens import quoted, tokenize
from litejoin.store.sqlite import open_memory

AFFECTED = "lj:affected"
"""The table of the host database that holds the result keys to recompute."""

MAX_TOPICS_IN_QUERY = 64
"""SQLite joins at most 64 tables."""

_FORBIDDEN_FUNCTIONS = frozenset(
    [
        "load_extension",
        "readfile",
        "writefile",
        "edit",
        "fts3_tokenizer",
        "sqlite_log",
        "sqlite_offset",
        "sqlite_compileoption_get",
        "sqlite_compileoption_used",
        "litejoin_topic",
        "match",  # has no meaning without full-text search: compiles, and fails for every row
    ]
)
_ALLOWED_ACTIONS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE})
_TABLES_OF_SQLITE = ("pragma_", "dbstat")
"""What the names of tables start with that are there without being made: they tell of SQLite and of
its files, not of topics. Those of JSON are harmless.
"""


def authorize(
    action: int,
    first: str | None,
    second: str | None,
    _db: str | None,
    _trigger: str | None,
) -> int:
    """The sandbox of user queries: read topics, call harmless functions, nothing else."""
    if action in _ALLOWED_ACTIONS:
        internal = action == apsw.SQLITE_READ and (first or "").lower().startswith("sqlite_")
        return apsw.SQLITE_DENY if internal else apsw.SQLITE_OK
    if action == apsw.SQLITE_FUNCTION and (second or "").lower() not in _FORBIDDEN_FUNCTIONS:
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY


def topics_in(query: str) -> tuple[str, ...]:
    """The tables that a query reads, in order of first use. Raises BadQuery.

    SQLite itself says which: unknown names are added until the query compiles, so CTE names,
    functions and string literals are never taken for topics.
    """
    _one_statement(query)
    names: list[str] = []
    for _ in range(MAX_TOPICS_IN_QUERY + 1):
        try:
            described = _describe(query, names)
        except apsw.Error as error:
            missing = re.match(r"no such table: (.+)$", str(error))
            if not missing or missing[1].lower() in (n.lower() for n in names):
                raise BadQuery(finding_of(query, error)) from None
            if missing[1].lower().startswith("sqlite_"):
                raise BadQuery(denied(query, missing[1])) from None
            names.append(missing[1])
            continue
        read = {
            (first or "").lower()
            for action, first, _ in described.actions
            if action == apsw.SQLITE_READ
        }
        return tuple(n for n in names if n.lower() in read or _names_table(query, n))
    raise BadQuery(SqlFinding("syntax", "the query reads more than 64 topics", 0, len(query)))


def output_columns(query: str, topics: Iterable[str]) -> tuple[str, ...]:
    """The names of the result columns. Raises BadQuery for anything SQLite or the sandbox
    refuses.
    """
    _one_statement(query)
    topics = tuple(topics)
    try:
        described = _describe(query, topics)
    except apsw.Error as error:
        raise BadQuery(finding_of(query, error)) from None
    for action, first, second in described.actions:
        if authorize(action, first, second, None, None) or _is_of_sqlite(action, first, topics):
            name = second if action == apsw.SQLITE_FUNCTION else first
            raise BadQuery(denied(query, name or "this statement"))
    if not described.is_readonly or not described.columns:
        raise BadQuery(SqlFinding("not-a-select", "the query must be one SELECT", 0, len(query)))
    refuse_hidden_collation(query)
    return described.columns


def _is_of_sqlite(action: int, table: str | None, topics: Iterable[str]) -> bool:
    """Does this action read one of SQLite's own tables, and not a topic of that name?"""
    name = (table or "").lower()
    if action != apsw.SQLITE_READ or not name.startswith(_TABLES_OF_SQLITE):
        return False
    return name not in (topic.lower() for topic in topics)


class PlanJudge:
    """Answers for delta queries: how would SQLite run them over these topics and indexes?"""

    def __init__(
        self, topics: Iterable[str], indexes: dict[str, list[tuple[str, bool, str]]]
    ) -> None:
        self._connection = open_memory()
        self._tables = TopicTables(self._connection)
        for number, topic in enumerate(topics, 1):
            self._tables.define(topic, number, indexes.get(topic.lower(), ()))
        self._connection.execute(f"CREATE TABLE {quoted(AFFECTED)}(v, UNIQUE(v))")

    def query_plan(self, sql: str) -> tuple[str, ...]:
        """The detail lines of EXPLAIN QUERY PLAN. Raises apsw.SQLError when `sql` does not
        compile.
        """
        return tuple(row[3] for row in self._connection.execute(f"EXPLAIN QUERY PLAN {sql}"))

    def aggregates(self, sql: str) -> bool:
        """True when the statement computes an aggregate."""
        return any(row[1].startswith("Agg") for row in self._connection.execute(f"EXPLAIN {sql}"))

    def close(self) -> None:
        self._tables.close()
        self._connection.close()


def scanned_topics(plan: Iterable[str]) -> list[str]:
    """The aliases that a query plan scans in full."""
    return [m[1] for line in plan if (m := re.match(r"SCAN (.+) VIRTUAL TABLE INDEX 0:scan", line))]


class _Described(NamedTuple):
    """What SQLite tells about a statement that it has prepared and not run."""

    columns: tuple[str, ...]
    is_readonly: bool
    actions: list[tuple[int, str | None, str | None]]
    """What the authorizer was asked for: the action and its first two arguments."""


def _describe(query: str, topics: Iterable[str]) -> _Described:
    """Prepare a query. Raises apsw.Error.

    Not by apsw.ext.query_info: importing apsw.ext takes longer than compiling a usual config.
    """
    connection = open_memory()
    tables = TopicTables(connection)
    actions: list[tuple[int, str | None, str | None]] = []
    prepared: list[_Described] = []

    def note(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        actions.append((action, first, second))
        return apsw.SQLITE_OK

    def stop(cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        columns = tuple(str(column[0]) for column in cursor.get_description())
        prepared.append(_Described(columns, cursor.is_readonly, actions))
        return False

    try:
        for number, topic in enumerate(topics, 1):
            tables.define(topic, number)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        # Double-quoted text that names no column must be an error, not a string.
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        cursor = connection.cursor()
        cursor.exec_trace = stop
        connection.authorizer = note
        with suppress(apsw.ExecTraceAbort):
            cursor.execute(query, can_cache=False)
        return prepared[0]
    finally:
        tables.close()
        connection.close()


def _one_statement(query: str) -> None:
    tokens = tokenize(query)
    ends = [i for i, t in enumerate(tokens) if t.is_op(";")]
    if ends and ends[0] < len(tokens) - 1:
        rest = tokens[ends[0] + 1]
        raise BadQuery(
            SqlFinding(
                "multiple-statements",
                "more than one statement",
                rest.start,
                rest.end,
                "keep one SELECT per query",
            )
        )
    if not tokens or not tokens[0].is_word("SELECT", "WITH", "VALUES"):
        end = tokens[0].end if tokens else 0
        raise BadQuery(SqlFinding("not-a-select", "the query must be one SELECT", 0, end))


def _names_table(query: str, name: str) -> bool:
    """count(*) reads no column, so the authorizer does not name the table: look for it in the
    text.
    """
    return any(t.is_identifier and t.text.lower() == name.lower() for t in tokenize(query))
