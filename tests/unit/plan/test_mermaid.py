"""The mermaid form keeps to a grammar that mermaid is known to render.

Mermaid itself needs a JavaScript engine and a browser's text measures, which the tests do without.
The grammar is a narrow part of mermaid's flowchart: identifiers that are no word of the language,
labels in double quotes without a character that ends or escapes one, three shapes and two arrows.
Whatever fits it is a chart. The goldens and `HOSTILE` were rendered by mermaid 12.3 in a headless
Chromium: as many nodes and arrows in the picture as in the text.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from litejoin.plan.explain import explain
from tests.unit.plan.documents import plan_of
from tests.unit.plan.plans import ORDERS_API, shop_plan
from tests.unit.plan.test_golden import FILES, explained

ID = r"(?:source|topic|join|window|sink)\d+"
LABEL = r'"[A-Za-z0-9_.*<>/-]+"'
SHAPES = rf"(?:\(\[{LABEL}\]\)|\[\({LABEL}\)\]|\[\[{LABEL}\]\]|\[{LABEL}\])"
NODE = re.compile(rf"  ({ID}){SHAPES}")
ARROW = re.compile(rf"  ({ID}) (?:-->|-\. [a-z ]+ \.->) ({ID})")

HOSTILE = """
sources:
  - {name: end, type: http, topics: [graph, subgraph, "o--x", "class.Def"],
     config: {addr: "127.0.0.1:8080"}}
joins:
  - {name: click, query: "SELECT key FROM graph", sink: style}
  - {name: x---, query: 'SELECT key FROM "o--x"', sink: default}
windows:
  - {name: linkStyle, type: tumbling, topic: subgraph, size: 1m, sink: style,
     query: "SELECT count(*) AS n FROM subgraph"}
sinks:
  - {name: style, type: stdout}
  - {name: default, type: stdout}
"""


def check(chart: str) -> tuple[int, int]:
    """The numbers of nodes and arrows; fails on a line that the grammar has not."""
    head, *lines = chart.splitlines()
    assert head == "flowchart LR"
    nodes = [match[1] for line in lines if (match := NODE.fullmatch(line))]
    arrows = [match.groups() for line in lines if (match := ARROW.fullmatch(line))]
    assert len(nodes) + len(arrows) == len(lines)
    assert len(set(nodes)) == len(nodes)
    assert {end for arrow in arrows for end in arrow} <= set(nodes)
    return len(nodes), len(arrows)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_charts_of_the_conformance_configs_keep_to_the_grammar(path: Path) -> None:
    nodes, arrows = check(explained(path, "mermaid"))
    assert nodes >= 4
    assert arrows >= nodes - 1


def test_names_that_are_words_of_mermaid_are_labels_only() -> None:
    assert check(explain(plan_of(HOSTILE), "mermaid")) == (10, 10)


def test_what_goes_another_way_is_dotted() -> None:
    many = replace(ORDERS_API, name="lines", topic="users", parent_topic="Orders")
    late = replace(shop_plan().windows[0], on_late="sink", late_sink="hook")
    plan = replace(shop_plan(), sources=(*shop_plan().sources, many), windows=(late,))
    chart = explain(plan, "mermaid")
    check(chart)
    assert len(re.findall(r"  topic\d+ -\. for each \.-> source\d+", chart)) == 1
    assert len(re.findall(r"  window\d+ -\. late \.-> sink\d+", chart)) == 1


def test_a_grammar_that_is_broken_is_noticed() -> None:
    for bad in (
        'flowchart LR\n  end["x"]',
        'flowchart LR\n  join1["a"b"]',
        "flowchart LR\n  join1",
    ):
        with pytest.raises(AssertionError):
            check(bad)
