"""Which rows of the topics a result is made of: the query of a join, asked backwards.

Called by the `why` command. Keeps the FROM and WHERE of the join's own text and asks for the keys
of its references instead of its columns, for one result key. Pure: builds SQL, runs none.
"""

from dataclasses import dataclass

from litejoin.plan.nodes import JoinPlan
from litejoin.plan.shape import NotPlain, Shape, parse_shape
from litejoin.plan.tokens import quoted

ROW_COLUMNS = ("key", "timestamp_ms", "op")


@dataclass(frozen=True, slots=True)
class InputsQuery:
    """`sql` takes the result key as its one parameter and gives, for each combination of rows that
    a result row came from, ROW_COLUMNS of each topic in `topics`; NULLs where an outer join found
    none.
    """

    sql: str
    topics: tuple[str, ...]


def inputs_query(join: JoinPlan, limit: int) -> InputsQuery | str:
    """The query, or the reason why the inputs of one key cannot be told apart."""
    try:
        shape = parse_shape(join.expanded or join.query)
    except NotPlain as reason:
        return f"the query has {reason}"
    key = _key(shape, join)
    if key is None:
        return f"the key {join.key_column} is not a plain expression of the select list"
    sources = [source for source in shape.sources if source.kind == "table"]
    columns = ", ".join(
        f"{quoted(source.alias)}.{quoted(name)}" for source in sources for name in ROW_COLUMNS
    )
    # The last one before the first table: IS DISTINCT FROM may stand in the select list.
    first = shape.sources[0].name_span.start
    from_start = max(t.start for t in shape.tokens if t.is_word("FROM") and t.end <= first)
    where = f"({shape.where.of(shape.text)}) AND " if shape.where else ""
    sql = (
        f"SELECT DISTINCT {columns} {shape.text[from_start : shape.from_end]}"
        f" WHERE {where}({key}) IS ?1 LIMIT {limit}"
    )
    return InputsQuery(sql, tuple(source.name for source in sources))


def _key(shape: Shape, join: JoinPlan) -> str | None:
    if any(output.star for output in shape.outputs):
        is_first = join.key_index == 0 and shape.outputs[0].star
        return f"{quoted(shape.sources[0].alias)}.key" if is_first else None
    span = shape.outputs[join.key_index].span
    if shape.group_by and shape.normal(span) not in map(shape.normal, shape.group_by):
        alias = shape.outputs[join.key_index].alias
        grouped = {" ".join(shape.normal(group)) for group in shape.group_by}
        if not grouped & {(alias or "").lower(), str(join.key_index + 1)} - {""}:
            return None
    return span.of(shape.text)
