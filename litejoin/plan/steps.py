"""SQLite's query plan lines of delta queries, in words.

Called by the text form of `explain`; the JSON form keeps SQLite's own lines. Topics are virtual
tables, of which SQLite says SCAN for every access: what counts is the way behind INDEX. A line that
is not known here is shown as it is.
"""

import re
from collections.abc import Iterable

_TOPIC = re.compile(
    r"SCAN (.+) VIRTUAL TABLE INDEX \d+:(delta|key|scan|index (lj:\d+))( LEFT-JOIN)?"
)
_AFFECTED = re.compile(
    r"USING INDEX sqlite_autoindex_lj:affected_\d+ FOR IN-OPERATOR|SCAN lj:affected"
)

_FUNCTION = re.compile(r"SCAN (\S+) VIRTUAL TABLE INDEX \d+:$")
"""json_each and json_tree."""
_SORT = re.compile(r"^USE TEMP B-TREE FOR ")
_MADE = re.compile(r"(CO-ROUTINE|MATERIALIZE) (.+)")
"""A query in WITH or FROM: the lines that follow make its rows, a SCAN of its name takes them."""
_TAKEN = re.compile(r"SCAN ([^ ]+)( LEFT-JOIN)?")
_SUBQUERY = re.compile(r"(CORRELATED )?(SCALAR|LIST) SUBQUERY \d+")


def steps_text(query_plan: Iterable[str]) -> str:
    """The lines of a query plan as one text: `changed rows of u, then o by lj:1`."""
    lines = list(query_plan)
    following = [*lines[1:], ""]
    return ", then ".join(filter(None, map(_step, lines, following)))


def _step(line: str, following: str) -> str:
    if _AFFECTED.fullmatch(line):
        return ""  # the affected keys themselves, in memory
    if _MADE.fullmatch(line):
        return ""
    if _SUBQUERY.fullmatch(line):
        return "" if _AFFECTED.fullmatch(following) else "in a subquery"
    if taken := _TAKEN.fullmatch(line):
        return f"rows of {taken[1]}"
    match = _TOPIC.fullmatch(line)
    if match is None:
        return _FUNCTION.sub(r"values of \1", _SORT.sub("sort for ", line))
    alias, way, column = match[1], match[2], match[3]
    if way == "delta":
        return f"changed rows of {alias}"
    if way == "scan":
        return f"every row of {alias}"
    return f"{alias} by {column or 'key'}"
