"""Every reason for a full re-evaluation comes with a rewrite, and the rewrites are incremental."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import litejoin.plan
from litejoin.plan.rewrites import rewrite_of
from tests.unit.plan.documents import SOURCES, findings_of, join_of

PACKAGE = Path(litejoin.plan.__file__).parent


def reasons() -> Iterator[str]:
    """The texts of all `NotPlain(...)` in the analysis that bring no rewrite of their own.

    What keeps a join from the native level leaves it incremental: nothing needs to be rewritten.
    """
    native = {*PACKAGE.glob("native*.py"), PACKAGE / "shape.py"}
    for path in sorted(set(PACKAGE.rglob("*.py")) - native):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "NotPlain":
                if len(node.args) == 2 and not node.keywords:
                    yield from texts(node.args[0])


def texts(node: ast.expr) -> Iterator[str]:
    """What an expression may say; `...` stands for what is filled in."""
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
        yield "".join(map(str, parts))


FILLED = {
    "... JOIN": ("RIGHT JOIN", "FULL JOIN", "NATURAL JOIN", "INDEXED JOIN", "NOT JOIN"),
    "the key ... is made of ...": (
        "the key a.x is made of several tables",
        "the key x is made of more than topic columns",
        "the key 1 is made of none",
    ),
}


def test_every_reason_of_the_analysis_has_a_rewrite() -> None:
    found = set(reasons())
    assert len(found) > 10
    without = [text for each in found for text in FILLED.get(each, (each,)) if not rewrite_of(text)]
    assert without == []


@pytest.mark.parametrize(
    ("query", "place", "start", "rewritten"),
    [
        ("SELECT key FROM orders LIMIT 3", (8, 35), "drop LIMIT", "SELECT key FROM orders"),
        (
            "SELECT random(), key FROM orders",
            (8, 19),
            "take the value from the message",
            "SELECT payload ->> '$.r', key FROM orders",
        ),
        (
            "SELECT o.key, u.key FROM orders o, users u",
            (8, 47),
            "join it by an equality",
            "SELECT o.key, u.key FROM orders o, users u WHERE u.key = o.payload ->> '$.user_id'",
        ),
        (
            "SELECT count(*) FROM orders",
            (8, 19),
            "GROUP BY a field",
            "SELECT payload ->> '$.region', count(*) FROM orders GROUP BY 1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_reason_names_its_place_and_its_rewrite_is_incremental(
    query: str, place: tuple[int, int], start: str, rewritten: str
) -> None:
    join = join_of(query)
    assert join.strategy == "full"
    (reason,) = join.reasons
    assert reason.place is not None
    assert (reason.place.line, reason.place.column) == place
    assert reason.rewrite.startswith(start)
    assert join_of(rewritten).strategy != "full"


def test_the_warning_tells_the_rewrite_as_its_hint() -> None:
    joins = "joins:\n  - {name: j, sink: out, query: SELECT key FROM orders LIMIT 3}"
    (finding,) = findings_of(SOURCES + joins)
    assert finding.code == "LJ241"
    assert finding.hint.startswith("drop LIMIT")
