"""Splits a window's query into sums of panes, where that gives exactly the same rows.

A query over one topic whose columns are reached through COUNT, SUM, AVG, MIN, MAX and GROUP BY only
can be worked out from partial results of short spans. Such a query becomes: the values to
aggregate, the groups, and the query again over a table of one row a group, in which each aggregate
and each group is a column. SQLite judges that last form: a column that is left over does not
compile, and the query is then evaluated over its messages instead.
"""

from dataclasses import dataclass

import apsw

from litejoin.plan.nodes import PaneAggregate, PanePlan
from litejoin.plan.tokens import Token, tokenize
from litejoin.store.sqlite import open_memory

AGGREGATES = ("COUNT", "SUM", "AVG", "MIN", "MAX")

REFUSED_WORDS = frozenset(
    "DISTINCT OVER FILTER WITH UNION INTERSECT EXCEPT JOIN COLLATE"
    " CURRENT_TIME CURRENT_DATE CURRENT_TIMESTAMP".split()
)
"""Words after which panes are not tried: other shapes, and what changes by itself."""

REFUSED_FUNCTIONS = frozenset(
    "RANDOM RANDOMBLOB DATE TIME DATETIME JULIANDAY UNIXEPOCH STRFTIME TIMEDIFF TOTAL GROUP_CONCAT"
    " STRING_AGG JSON_GROUP_ARRAY JSON_GROUP_OBJECT JSONB_GROUP_ARRAY JSONB_GROUP_OBJECT MEDIAN"
    " PERCENTILE PERCENTILE_CONT PERCENTILE_DISC CHANGES LAST_INSERT_ROWID TOTAL_CHANGES".split()
)
"""The same for functions: other aggregates, and what differs from run to run."""

TYPES = {"KEY": "TEXT", "PAYLOAD": "TEXT", "TIMESTAMP": "INTEGER", "TIMESTAMP_MS": "INTEGER"}
"""Declared types of a topic's columns: a group that is one of them compares as the column does."""


class NoPanes(Exception):
    """The query is not of the shape: why, and the offset in it where that shows."""

    def __init__(self, reason: str, offset: int = 0) -> None:
        super().__init__(reason)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class _Clauses:
    """Token ranges of a SELECT's parts."""

    items: tuple[int, int]
    where: tuple[int, int] | None
    group: tuple[int, int] | None
    rest: int
    """Where HAVING, ORDER BY or LIMIT start; the number of tokens without them."""
    alias: str


def compile_panes(query: str, columns: tuple[str, ...]) -> PanePlan:
    """The query in panes. Raises NoPanes when it cannot be had from them."""
    return _Splitter(query).plan(columns)


class _Splitter:
    """Works on the tokens of one query."""

    def __init__(self, query: str) -> None:
        self._query = query.rstrip().removesuffix(";")
        self._tokens = tokenize(self._query)
        for token, following in zip(self._tokens, [*self._tokens[1:], None], strict=True):
            if token.is_word(*REFUSED_WORDS):
                raise NoPanes(f"{token.text.upper()} needs the messages themselves", token.start)
            if token.is_identifier and following is not None and following.is_op("("):
                if token.text.upper() in REFUSED_FUNCTIONS:
                    raise NoPanes(f"{token.text.lower()}() needs the messages", token.start)
        self._clauses = self._find_clauses()
        self._values: list[str] = []

    def plan(self, columns: tuple[str, ...]) -> PanePlan:
        clauses = self._clauses
        groups = self._groups()
        aggregates: list[PaneAggregate] = []
        edits = self._aggregate_edits(aggregates)
        taken = [(start, end) for start, end, _ in edits]
        edits += self._group_edits(groups, taken)
        final = self._final(edits)
        types = [TYPES.get(self._bare(group), "") for group in groups]
        self._check(final, types, aggregates, columns)
        return PanePlan(
            where=None if clauses.where is None else self._text(*clauses.where),
            alias=clauses.alias,
            groups=tuple(groups),
            group_types=tuple(types),
            values=tuple(self._values),
            aggregates=tuple(aggregates),
            final_sql=final,
        )

    # -- the parts of the query

    def _find_clauses(self) -> _Clauses:
        tokens = self._tokens
        if not tokens or not tokens[0].is_word("SELECT"):
            raise NoPanes("it is not one SELECT")
        for token in tokens[1:]:
            if token.is_word("SELECT"):
                raise NoPanes("a query within the query", token.start)
        start = self._top("FROM", 1)
        if start is None or start + 1 >= len(tokens) or not tokens[start + 1].is_identifier:
            raise NoPanes("it does not read the topic alone")
        at, alias = start + 2, tokens[start + 1].text
        if at < len(tokens) and tokens[at].is_word("AS"):
            at += 1
        words = ("WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "WINDOW")
        if at < len(tokens) and tokens[at].is_identifier and not tokens[at].is_word(*words):
            alias = self._query[tokens[at].start : tokens[at].end].strip('"`[]')
            at += 1
        else:
            name = tokens[start + 1]
            alias = self._query[name.start : name.end].strip('"`[]')
        where = group = None
        if at < len(tokens) and tokens[at].is_word("WHERE"):
            end = self._next(at + 1)
            where, at = (at + 1, end), end
        if at + 1 < len(tokens) and tokens[at].is_word("GROUP") and tokens[at + 1].is_word("BY"):
            end = self._next(at + 2)
            group, at = (at + 2, end), end
        if at < len(tokens) and not tokens[at].is_word("HAVING", "ORDER", "LIMIT"):
            raise NoPanes("it does not read the topic alone", tokens[at].start)
        return _Clauses((1, start), where, group, at, alias)

    def _top(self, word: str, start: int) -> int | None:
        for i in range(start, len(self._tokens)):
            if self._tokens[i].depth == 0 and self._tokens[i].is_word(word):
                return i
        return None

    def _next(self, start: int) -> int:
        for i in range(start, len(self._tokens)):
            token = self._tokens[i]
            if token.depth == 0 and token.is_word("GROUP", "HAVING", "ORDER", "LIMIT", "WINDOW"):
                return i
        return len(self._tokens)

    def _text(self, start: int, end: int) -> str:
        return self._query[self._tokens[start].start : self._tokens[end - 1].end]

    def _split(self, start: int, end: int, depth: int = 0) -> list[tuple[int, int]]:
        parts, first = [], start
        for i in range(start, end):
            if self._tokens[i].depth == depth and self._tokens[i].is_op(","):
                parts.append((first, i))
                first = i + 1
        parts.append((first, end))
        if any(a >= b for a, b in parts):
            raise NoPanes("an empty list", self._tokens[start - 1].start)
        return parts

    def _items(self) -> list[tuple[tuple[int, int], str | None]]:
        """Select items without their alias, and the alias."""
        found = []
        for start, end in self._split(*self._clauses.items):
            alias = None
            last = self._tokens[end - 1]
            if end - start > 2 and self._tokens[end - 2].is_word("AS") and last.depth == 0:
                alias, end = last.text.upper(), end - 2
            found.append(((start, end), alias))
        return found

    # -- groups

    def _groups(self) -> list[str]:
        if self._clauses.group is None:
            return []
        items = self._items()
        groups = []
        for start, end in self._split(*self._clauses.group):
            token = self._tokens[start]
            if end - start == 1 and token.kind == "number":
                number = int(token.text) - 1
                if not 0 <= number < len(items):
                    raise NoPanes("GROUP BY names no column", token.start)
                groups.append(self._text(*items[number][0]))
            elif end - start == 1 and token.text.upper() not in TYPES:
                # A name that is no column is the alias of an item.
                named = [item for item, alias in items if alias == token.text.upper()]
                if len(named) != 1:
                    raise NoPanes(
                        f"GROUP BY {self._text(start, end)} is not one of the columns", token.start
                    )
                groups.append(self._text(*named[0]))
            else:
                groups.append(self._text(start, end))
        return groups

    def _bare(self, group: str) -> str:
        tokens = tokenize(group)
        return tokens[-1].text.upper() if len(tokens) in (1, 3) else ""

    def _group_edits(
        self, groups: list[str], taken: list[tuple[int, int]]
    ) -> list[tuple[int, int, str]]:
        """Occurrences of the group expressions outside aggregates."""
        edits = []
        for number, group in enumerate(groups):
            wanted = [(t.kind, t.text) for t in tokenize(group)]
            for i in self._outer():
                span = self._tokens[i : i + len(wanted)]
                if [(t.kind, t.text) for t in span] != wanted:
                    continue
                start, end = span[0].start, span[-1].end
                if not any(a < end and start < b for a, b in taken):
                    edits.append((start, end, f"g{number}"))
                    taken.append((start, end))
        return edits

    def _outer(self) -> range | list[int]:
        """Tokens of the final query: the items, and what follows GROUP BY."""
        first, last = self._clauses.items
        return [*range(first, last), *range(self._clauses.rest, len(self._tokens))]

    # -- aggregates

    def _aggregate_edits(self, found: list[PaneAggregate]) -> list[tuple[int, int, str]]:
        edits = []
        for i in self._outer():
            token = self._tokens[i]
            following = self._tokens[i + 1] if i + 1 < len(self._tokens) else None
            if not token.is_word(*AGGREGATES) or following is None or not following.is_op("("):
                continue
            end = self._closing(i + 1)
            aggregate = self._aggregate(token, i + 2, end)
            if aggregate not in found:
                found.append(aggregate)
            edits.append((token.start, self._tokens[end].end, f"a{found.index(aggregate)}"))
        if not edits:
            raise NoPanes("it has no aggregate")
        return edits

    def _closing(self, opening: int) -> int:
        depth = self._tokens[opening].depth
        for i in range(opening + 1, len(self._tokens)):
            if self._tokens[i].is_op(")") and self._tokens[i].depth == depth:
                return i
        raise NoPanes("a bracket is not closed", self._tokens[opening].start)

    def _aggregate(self, name: Token, start: int, end: int) -> PaneAggregate:
        inner = self._tokens[start:end]
        if any(t.is_word(*AGGREGATES, "ORDER") for t in inner):
            raise NoPanes("an aggregate of aggregates, or in an order of its own", name.start)
        if name.text == "COUNT" and (not inner or (len(inner) == 1 and inner[0].is_op("*"))):
            return PaneAggregate("COUNT", None)
        if not inner or len(self._split(start, end, inner[0].depth)) != 1:
            raise NoPanes(f"{name.text.lower()}() of several values is no aggregate", name.start)
        text = self._text(start, end)
        if text not in self._values:
            self._values.append(text)
        return PaneAggregate(name.text, self._values.index(text))

    # -- the query over merged panes

    def _final(self, edits: list[tuple[int, int, str]]) -> str:
        """SELECT items FROM merged, and what followed GROUP BY; aggregates and groups are columns.

        An item without an alias keeps no name of its own: results are named by the plan.
        """
        start = self._tokens[0].start
        from_at = self._tokens[self._clauses.items[1]].start
        head = self._spliced(start, from_at, edits)
        if self._clauses.rest == len(self._tokens):
            return f"{head}FROM merged"
        rest_at = self._tokens[self._clauses.rest].start
        rest = self._spliced(rest_at, len(self._query), edits)
        if self._tokens[self._clauses.rest].is_word("HAVING"):
            rest = "WHERE" + rest[len("HAVING") :]
        return f"{head}FROM merged {rest}"

    def _spliced(self, start: int, end: int, edits: list[tuple[int, int, str]]) -> str:
        out, at = [], start
        for first, last, text in sorted(edits):
            if start <= first and last <= end:
                out += [self._query[at:first], text]
                at = last
        return "".join([*out, self._query[at:end]])

    def _check(
        self,
        final: str,
        types: list[str],
        aggregates: list[PaneAggregate],
        columns: tuple[str, ...],
    ) -> None:
        db = open_memory()
        try:
            fields = merged_columns(types, len(aggregates))
            db.execute(f"CREATE TABLE merged({fields or 'nothing'})")
            # Text in double quotes that names no column must be an error, not a string.
            db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
            db.execute("INSERT INTO merged DEFAULT VALUES")
            cursor = db.execute(final)
            width = len(cursor.description) if cursor.fetchone() is not None else len(columns)
            if width != len(columns):
                raise NoPanes("its columns are not fixed")
        except apsw.Error as error:
            raise NoPanes(
                f"a column is neither a group nor within an aggregate ({error})"
            ) from None
        finally:
            db.close()


def merged_columns(types: list[str] | tuple[str, ...], aggregates: int) -> str:
    """The columns of the table that the final query reads."""
    groups = [f"g{number} {type_}" for number, type_ in enumerate(types)]
    return ", ".join([*groups, *(f"a{number}" for number in range(aggregates))])
