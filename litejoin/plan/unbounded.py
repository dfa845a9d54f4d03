"""Finds topics of one FROM clause that no condition ties together: their join has no bound.

Called by `compile_joins` for a query that SQLite takes. Reads one plain SELECT; for anything else
(subqueries, WITH, NATURAL, USING) it finds nothing rather than guess.
"""

from collections.abc import Iterator
from itertools import takewhile

from litejoin.frozen import dataclass
from litejoin.plan.tokens import Token, tokenize

_ENDS = ("WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "WINDOW")
_BETWEEN_TABLES = ("JOIN", "LEFT", "RIGHT", "FULL", "INNER", "OUTER", "CROSS")
_NOT_READ = ("NATURAL", "USING", "WITH", "INDEXED", "UNION", "INTERSECT", "EXCEPT")


@dataclass(frozen=True, slots=True)
class LooseTable:
    """A table that multiplies the result: where it stands in the query, and beside what."""

    name: str
    beside: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Item:
    """One table or function of the FROM clause, with the tokens of its arguments and its ON."""

    name: Token
    alias: str
    is_function: bool
    conditions: list[Token]


def loose_table(query: str) -> LooseTable | None:
    """The first table that nothing ties to the tables before it, None when there is none.

    A table of which conditions pick single keys (`s.key = 'limits'`) multiplies nothing.
    """
    tokens = tokenize(query)
    selects = [token for token in tokens if token.is_word("SELECT")]
    if len(selects) != 1 or any(token.is_word(*_NOT_READ) for token in tokens):
        return None
    items, where = _from_items(tokens)
    tied = _Ties(item.alias for item in items)
    for item in items:
        if item.is_function:
            tied.tie({item.alias, *_aliases(item.conditions)})
    for term in [*_terms(where), *(term for item in items for term in _terms(item.conditions))]:
        tied.tie(_aliases(term))
        tied.note_if_single(term)
    return _first_loose(items, tied)


def _first_loose(items: list[_Item], tied: "_Ties") -> LooseTable | None:
    first: _Item | None = None
    for item in items:
        if item.is_function or tied.is_single(item.alias):
            continue
        if first is None:
            first = item
        elif tied.group(item.alias) != tied.group(first.alias):
            name = item.name
            return LooseTable(item.alias, first.alias, name.start, name.end)
    return None


class _Ties:
    """Groups of aliases that conditions tie together."""

    def __init__(self, aliases: Iterator[str]) -> None:
        self._group = {alias: alias for alias in aliases}
        self._single: set[str] = set()

    def group(self, alias: str) -> str:
        return self._group[alias]

    def is_single(self, alias: str) -> bool:
        return self._group[alias] in {self._group[single] for single in self._single}

    def tie(self, aliases: set[str]) -> None:
        known = aliases & self._group.keys()
        groups = {self._group[alias] for alias in known}
        for alias, group in self._group.items():
            if group in groups:
                self._group[alias] = min(groups)

    def note_if_single(self, term: list[Token]) -> None:
        """`a.key = 1`, `1 = a.key` and `a.key IN (..)` leave a handful of rows of `a`."""
        aliases = _aliases(term) & self._group.keys()
        if len(aliases) == 1 and _picks_keys(term):
            self._single |= aliases


def _picks_keys(term: list[Token]) -> bool:
    for at, token in enumerate(term):
        if token.is_op(".") and at + 1 < len(term) and term[at + 1].text.lower() == "key":
            after = term[at + 2] if at + 2 < len(term) else None
            before = term[at - 2] if at >= 2 else None
            if after is not None and (after.is_op("=", "==") or after.is_word("IN")):
                return True
            if after is None and before is not None and before.is_op("=", "=="):
                return True
    return False


def _from_items(tokens: list[Token]) -> tuple[list[_Item], list[Token]]:
    """The items of the FROM clause, and the tokens of the WHERE clause."""
    top = [at for at, token in enumerate(tokens) if token.depth == 0 and token.is_word("FROM")]
    if not top:
        return [], []
    inside: list[Token] = []
    where: list[Token] = []
    into: list[Token] | None = inside
    for token in tokens[top[0] + 1 :]:
        if token.depth == 0 and token.is_word(*_ENDS):
            into = where if token.is_word("WHERE") else None
        elif into is not None and not token.is_op(";"):
            into.append(token)
    items = [_item(part) for part in _parts(inside) if part]
    return [item for item in items if item is not None], where


def _parts(tokens: list[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.depth == 0 and (token.is_op(",") or token.is_word(*_BETWEEN_TABLES)):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _item(part: list[Token]) -> _Item | None:
    name, rest = part[0], part[1:]
    if not name.is_identifier:
        return None
    is_function = bool(rest) and rest[0].is_op("(")
    before_on = takewhile(lambda token: not token.is_word("ON"), rest)
    named = (t for t in before_on if t.depth == 0 and t.is_identifier and not t.is_word("AS"))
    alias = next(named, name)
    return _Item(name, alias.text.lower(), is_function, rest)


def _terms(tokens: list[Token]) -> list[list[Token]]:
    """The terms of a top-level AND; with an OR among them all is one term."""
    if any(token.is_word("OR") for token in tokens):
        return [tokens]
    terms: list[list[Token]] = [[]]
    for token in tokens:
        if token.is_word("AND"):
            terms.append([])
        else:
            terms[-1].append(token)
    return terms


def _aliases(tokens: list[Token]) -> set[str]:
    """What stands before a dot."""
    pairs = zip(tokens, tokens[1:], strict=False)
    return {token.text.lower() for token, after in pairs if after.is_op(".")}
