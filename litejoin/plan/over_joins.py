"""Joins that read other joins: the other's query stands in for its name.

Called by `compile_joins`. `FROM totals`, where `totals` is a join, means its results; its query is
put before the reader's as a table of WITH. So both are evaluated from the topics at one consistent
state, whatever the order of the joins in the config, and a change reaches the reader's result by
keys like any other. A topic that a source names goes before a join of that name.
"""

from collections.abc import Callable, Mapping

from litejoin.frozen import dataclass
from litejoin.plan.sql_errors import BadQuery, SqlFinding
from litejoin.plan.tokens import Token, quoted, tokenize


@dataclass(frozen=True, slots=True)
class Expanded:
    """A query with the joins it reads in place; the characters from `at` on moved by `moved`."""

    text: str
    at: int = 0
    moved: int = 0
    reads: frozenset[str] = frozenset()
    """What was put in, and what that reads in turn: names in lower case."""

    def written(self, offset: int) -> int:
        """Where an offset is in the query as written; the start for what was put in."""
        return offset if offset <= self.at else max(self.at, offset - self.moved)


Columns = Callable[[str, str], tuple[str, ...]]
"""(join, its expanded query) -> the names that its results have."""


class JoinTexts:
    """The queries of all joins by name, in lower case."""

    def __init__(self, queries: Mapping[str, str], topics: set[str], columns: Columns) -> None:
        self._queries = {k: v for k, v in queries.items() if k not in topics}
        self._columns = columns

    def expanded(self, query: str, name: str) -> Expanded:
        """The query of a join, or of a window. Raises BadQuery when joins read one another in a
        circle.
        """
        return self._expanded(query, (name.lower(),), query)

    def _expanded(self, query: str, way: tuple[str, ...], written: str) -> Expanded:
        tokens = tokenize(query)
        tables: list[tuple[str, str]] = []
        reads: set[str] = set()
        for token in _tables(tokens):
            name = token.text.lower()
            if name not in self._queries or name in (t for t, _ in tables) or name == way[-1]:
                continue
            if name in way:
                raise BadQuery(_circle(written, (*way, name)))
            inner = self._expanded(self._queries[name], (*way, name), written)
            reads |= {name, *inner.reads}
            names = ", ".join(quoted(c) for c in self._columns(name, inner.text))
            tables.append((name, f"{quoted(name)}({names}) AS (\n{inner.text}\n)"))
        if not tables:
            return Expanded(query)
        added = ", ".join(text for _, text in tables)
        if not tokens[0].is_word("WITH"):
            return Expanded(f"WITH {added} {query}", 0, len(added) + 6, frozenset(reads))
        at = tokens[1].end if tokens[1].is_word("RECURSIVE") else tokens[0].end
        text = f"{query[:at]} {added},{query[at:]}"
        return Expanded(text, at, len(added) + 2, frozenset(reads))


def _tables(tokens: list[Token]) -> list[Token]:
    """The names that stand where a table can, but those of the query's own WITH."""
    own = {
        token.text.lower()
        for token, after in zip(tokens, tokens[1:], strict=False)
        if token.is_identifier and after.is_word("AS") and tokens[0].is_word("WITH")
    }
    return [
        token
        for before, token in zip(tokens, tokens[1:], strict=False)
        if token.is_identifier
        and (before.is_word("FROM", "JOIN") or before.is_op(","))
        and token.text.lower() not in own
    ]


def _circle(query: str, way: tuple[str, ...]) -> SqlFinding:
    name = way[1]
    found = (t for t in _tables(tokenize(query)) if t.text.lower() == name)
    token = next(found, None)
    start, end = (token.start, token.end) if token else (0, 1)
    message = f"joins read one another in a circle: {' -> '.join(way)}"
    hint = "a join reads topics, and joins that do not read it"
    return SqlFinding("join-circle", message, start, end, hint)
