"""Which joins native code can evaluate, and how: from the query's shape to a NativePlan.

Called by the compiler for joins that are incremental already. A join is native when it is one
SELECT of columns and expressions that each read one topic reference, the references are connected
by equalities, and every other condition reads one reference: then nothing is left of the query but
values of single rows, which SQLite itself computes (or native code, where the answer is certain),
and equalities between them. Anything else stays delta, with the reason. It never decides whether
SQL is valid.
"""

import copy
from collections.abc import Iterable, Sequence

from litejoin.plan.delta import IndexRegistry
from litejoin.plan.native_links import Links
from litejoin.plan.nodes_native import NativeFinder, NativePlan
from litejoin.plan.shape import NotPlain, Shape, Span, parse_shape

NOT_NATIVE = {
    "GROUP": "GROUP BY",
    "ORDER": "ORDER BY",
    "HAVING": "HAVING",
    "DISTINCT": "DISTINCT",
    "LIMIT": "LIMIT",
    "OVER": "a window function",
    "WITH": "a common table expression",
    "UNION": "UNION",
    "EXCEPT": "EXCEPT",
    "INTERSECT": "INTERSECT",
    "RIGHT": "RIGHT JOIN",
    "FULL": "FULL JOIN",
    "NATURAL": "NATURAL JOIN",
    "USING": "USING",
    "EXISTS": "a subquery",
}


def native_plan(
    name: str, query: str, key_index: int, topics: Sequence[str], registry: IndexRegistry
) -> NativePlan:
    """The native plan of a join; adds the key maps it needs to `registry`.

    Raises NotPlain with what forbids it and where. Pure but for the registry; milliseconds.
    """
    query = query.rstrip().removesuffix(";").rstrip()
    shape = parse_shape(query)
    _refuse(shape)
    trial = copy.deepcopy(registry)
    plan = _plan(Links(name, shape, topics, trial), key_index)
    registry.by_topic, registry.used_by = trial.by_topic, trial.used_by
    return plan


def _refuse(shape: Shape) -> None:
    for i, token in enumerate(shape.tokens):
        if token.kind == "word" and token.text in NOT_NATIVE:
            raise NotPlain(NOT_NATIVE[token.text], token.start)
        if i and token.is_word("SELECT"):
            raise NotPlain("a subquery", token.start)


def _plan(links: Links, key_index: int) -> NativePlan:
    outputs = [place for output in links.shape.outputs for place in _output(links, output.span)]
    key_ref, key_value = outputs[key_index]
    if links.shape.sources[key_ref].outer:
        raise NotPlain("the key comes from the optional side of a LEFT JOIN", 0)
    links.read_conditions()
    way = links.way(key_ref)
    position = {ref: i for i, (ref, _) in enumerate(way)}
    key_span = links.values[key_ref].span_of(key_value)
    by = key_finder(links, key_ref, key_span)
    references = tuple(links.reference(ref, link, position) for ref, link in way)
    links.compile(references)
    places = tuple((position[ref], value) for ref, value in outputs)
    return NativePlan(references, key_value, by, places)


def key_finder(links: Links, key_ref: int, span: Span) -> NativeFinder:
    """How the rows of a reference are found for a result key that is this value of it."""
    if links.values[key_ref].is_key(span):
        return NativeFinder(None, True)
    if links.shape.depends_on_now(span):
        raise NotPlain("the key depends on the time", span.start)
    return NativeFinder(links.index(key_ref, span, False), False)


def _output(links: Links, span: Span) -> Iterable[tuple[int, int]]:
    shape = links.shape
    output = next(o for o in shape.outputs if o.span == span)
    if not output.star:
        ref = links.one(span, "the column")
        return [(ref, links.values[ref].add(span))]
    wanted = (output.alias or "").lower()
    refs = [
        i
        for i, source in enumerate(shape.sources)
        if output.alias is None or source.alias.lower() == wanted
    ]
    return [(i, links.values[i].add_column(c)) for i in refs for c in links.values[i].starred]
