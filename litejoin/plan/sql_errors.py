"""What SQLite says about a query, as findings that point at the place in the query's text.

Called by `sql`. SQLite tells the offset of most errors; for the rest the message names a word that
stands in the query. Knows nothing of the config file: offsets are characters of the query.
"""

import re

import apsw

from litejoin.frozen import dataclass
from litejoin.plan.tokens import Token, tokenize


@dataclass(frozen=True, slots=True)
class SqlFinding:
    """Something wrong with a query. `kind` names the rule, offsets are characters in the query
    text.
    """

    kind: str
    message: str
    start: int
    end: int
    hint: str = ""


class BadQuery(Exception):
    """A query that cannot be used."""

    def __init__(self, finding: SqlFinding) -> None:
        super().__init__(finding.message)
        self.finding = finding


_COLUMNS_HINT = "a topic has key, payload, timestamp; JSON fields are read with json_extract or ->>"

_QUOTED_HINT = "a text stands in single quotes: 'created'; double quotes are for names"

_ADVICE = {
    "ambiguous column name": "write it with the alias of its table, such as o.key",
    "misuse of aggregate": "an aggregate belongs into the output or into HAVING",
    "misuse of window function": "a window function needs OVER (...)",
    "incomplete input": "something is not closed or cut off, such as a parenthesis",
    "unrecognized token": "check the quotes and special characters here",
    "term out of range": "a number there means an output column, from 1",
    "sub-select returns": "a subquery that stands for a value has one column",
    "same number of result columns": "every SELECT of the query needs as many columns as the first",
    "syntax error": "the mistake is at this word or right before it",
}
"""What to do about some of SQLite's messages."""

_NAMED = re.compile(
    r"(?:no such (?:column|table|function|window|collation sequence|index): "
    r"|circular reference: |duplicate WITH table name: |cannot join using column |table )"
    r"(\S+)"
)
"""Messages that name what they are about."""

_KEYWORD = re.compile(r"\b[A-Z]{3,}\b")
"""SQLite writes the keywords of its messages in upper case: "HAVING clause on a non-aggregate"."""


def finding_of(query: str, error: apsw.Error) -> SqlFinding:
    """SQLite's error as a finding, with its place in the query as well as SQLite or the text tells
    it.
    """
    message = str(error)
    if isinstance(error, apsw.AuthError):
        match = re.search(
            r"not authorized to use function: (\S+)|access to (\S+) is prohibited",
            message,
        )
        return denied(query, (match[1] or match[2]) if match else "this statement")
    if isinstance(error, apsw.BindingsError):
        return _parameter(query)
    start, end = _where(query, message, getattr(error, "error_offset", -1))
    if message.startswith("no such column: "):
        hint = _QUOTED_HINT if "string literal" in message else _COLUMNS_HINT
        return SqlFinding("no-such-column", message, start, end, hint)
    if message.startswith("no such table: "):
        name = message.removeprefix("no such table: ")
        hint = f'a topic name with a dot needs quotes: "{name}"' if "." in name else ""
        return SqlFinding("no-such-topic", f"no such topic: {name}", start, end, hint)
    hint = next((hint for known, hint in _ADVICE.items() if known in message), "")
    return SqlFinding("syntax", message, start, end, hint)


def denied(query: str, what: str) -> SqlFinding:
    """The finding about something that the sandbox of queries refuses."""
    # SQLite's catalogue has several names, of which SQLite tells one.
    internal = next((t for t in tokenize(query) if t.text.lower().startswith("sqlite_")), None)
    if what.startswith("sqlite_") and internal is not None:
        what = internal.text.lower()
    start, end = _name(query, what) or (0, len(query))
    hint = "queries may read topics and call SQLite's ordinary functions"
    return SqlFinding("forbidden", f"{what} may not be used in a query", start, end, hint)


def _parameter(query: str) -> SqlFinding:
    """A query is run as it stands: nothing would ever fill in a ?, :name, @name or $name."""
    marks = [token for token in tokenize(query) if token.is_op("?", ":", "@", "$")]
    start = marks[0].start if marks else 0
    hint = "write the value itself, or ${NAME} for one from the environment"
    return SqlFinding("forbidden", "a query has no parameters", start, start + 1, hint)


def _where(query: str, message: str, byte_offset: int) -> tuple[int, int]:
    """Start and end of what a message is about; the whole query when nothing tells."""
    tokens = tokenize(query)
    if message == "incomplete input" and tokens:
        # What is missing is missing at the end, not where the query starts.
        return tokens[-1].start, tokens[-1].end
    if byte_offset >= 0 and not message.startswith("no such function: "):
        return _token_at(query, tokens, byte_offset)
    named = _NAMED.match(message)
    place = _name(query, named[1]) if named else _keyword(tokens, message)
    return place or (0, len(query))


def _token_at(query: str, tokens: list[Token], byte_offset: int) -> tuple[int, int]:
    at = len(query.encode()[:byte_offset].decode("utf-8", "ignore"))
    for token in tokens:
        if token.start <= at < token.end:
            return _qualified(query, token)
    return at, at + 1


def _qualified(query: str, token: Token) -> tuple[int, int]:
    """A column with its qualifier: SQLite points at the qualifier, people read the whole name."""
    match = re.compile(r'[\w$"]+\s*\.\s*[\w$"]+').match(query, token.start)
    return (token.start, match.end()) if match else (token.start, token.end)


def _name(query: str, name: str) -> tuple[int, int] | None:
    """Where a name, perhaps a qualified one, stands in the query."""
    parts = [part.lower() for part in name.replace('"', "").split(".")]
    tokens = tokenize(query)
    for i, token in enumerate(tokens):
        if token.is_identifier and token.text.lower() == parts[0]:
            last = tokens[i + 2] if len(parts) == 2 and i + 2 < len(tokens) else token
            if len(parts) == 1 or last.text.lower() == parts[1]:
                return token.start, last.end
    return None


def _keyword(tokens: list[Token], message: str) -> tuple[int, int] | None:
    """The first keyword of the message that stands in the query."""
    words = _KEYWORD.findall(message)
    if message.startswith("sub-select returns "):
        tokens, words = [token for token in tokens if token.depth], ["SELECT", "VALUES"]
    if "frame specification" in message:
        words = ["ROWS", "RANGE", "GROUPS"]
    for word in words:
        for token in tokens:
            if token.is_word(word):
                return token.start, token.end
    return None
