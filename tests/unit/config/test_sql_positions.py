"""A mistake in a query has the line and column of the YAML file, however YAML writes the query."""

import pytest

from litejoin.config import load_config
from litejoin.plan.compile import compile_plan

HEAD = """\
sources:
  - {name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}
sinks:
  - {name: out, type: stdout}
joins:
"""

STYLES = {
    "literal": "query: |\n      SELECT o.key,\n             o.nmae\n      FROM orders o\n",
    "literal, kept end": "query: |+\n      SELECT o.key, o.nmae\n      FROM orders o\n\n\n",
    "literal, stripped, indented": "query: |-\n          SELECT o.key\n"
    "            , o.nmae FROM orders o\n",
    "literal, indent of its own": "query: |2\n        SELECT o.key,\n      o.nmae FROM orders o\n",
    "literal, blank lines": "query: |\n\n\n      SELECT o.key,\n\n      o.nmae FROM orders o\n",
    "literal, a comment behind |": "query: |  # sql\n      SELECT o.key, o.nmae FROM orders o\n",
    "literal, comments": "query: |\n      -- it's\n      SELECT o.key, /* é */ o.nmae\n"
    "      FROM orders o\n",
    "folded": "query: >\n      SELECT o.key,\n      o.nmae\n      FROM orders o\n",
    "folded, more indented": "query: >-\n      SELECT o.key,\n"
    "         o.nmae\n\n      FROM orders o\n",
    "plain, one line": "query: SELECT o.key, o.nmae FROM orders o\n",
    "plain, several lines": "query: SELECT o.key,\n      o.nmae\n      FROM orders o\n",
    "single quotes": "query: 'SELECT ''a'' AS a, o.nmae FROM orders o'\n",
    "single quotes, several lines": "query: 'SELECT ''a''\n      AS a,\n"
    "\n      o.nmae FROM orders o'\n",
    "double quotes": 'query: "SELECT \\"key\\", o.nmae FROM orders o"\n',
    "double quotes, escapes": 'query: "SELECT\\to.key,\\n \\\n      o.nmae FROM orders o"\n',
    "an anchor before": "query: &q |\n      SELECT o.key,\n      o.nmae FROM orders o\n",
    "tabs inside": "query: |\n      SELECT\to.key,\n      \to.nmae FROM orders o\n",
    "a variable before": 'query: "SELECT ${COLUMN}, o.nmae FROM orders o"\n',
    "a variable in a block": "query: |\n      SELECT ${COLUMN}\n"
    "      , ${COLUMN} AS x, o.nmae\n      FROM orders o\n",
    "astral characters": "query: |\n      SELECT '𝄞é' AS a, o.nmae\n      FROM orders o\n",
}  # fmt: skip


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["", "bom"])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
def test_the_column_is_marked_where_it_stands(style: str, bom: str, line_end: str) -> None:
    text = HEAD + "  - name: j\n    sink: out\n    " + style
    at = text.index("o.nmae")
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    written = bom + text.replace("\n", line_end)
    document, found = load_config(written, env={"COLUMN": "o.payload"})
    assert document is not None
    found = [*found, *compile_plan(document)[1]]
    assert [(f.code, f.line, f.column, f.length) for f in found] == [("LJ212", line, column, 6)]


def test_flow_style_over_several_lines() -> None:
    text = (
        HEAD
        + '  - {name: j, sink: out,\n     query: "SELECT o.key,\n       o.nmae FROM orders o"}\n'
    )
    document, found = load_config(text, env={})
    assert document is not None
    (finding,) = [*found, *compile_plan(document)[1]]
    assert (finding.code, finding.line, finding.column) == ("LJ212", 8, 8)
