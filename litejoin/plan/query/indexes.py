"""The key maps that all joins of a pipeline ask for, numbered per topic."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IndexRequest:
    """An indexed expression over one row of a topic; `path` is how people read it.

    `laterals`: what is joined to the row (json_each, json_tree); then a row has several values.
    """

    expression: str
    is_text: bool
    path: str
    laterals: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """A key map as statements name it: the hidden column, and how people read it."""

    column: str
    path: str


@dataclass
class IndexRegistry:
    """The indexed expressions of all joins: "lj:1" is the first of its topic."""

    by_topic: dict[str, list[IndexRequest]] = field(default_factory=dict)
    used_by: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def column(self, topic: str, request: IndexRequest, join: str) -> str:
        """The hidden column of an expression, new or shared."""
        requests = self.by_topic.setdefault(topic.lower(), [])
        known = [(r.expression, r.is_text, r.laterals) for r in requests]
        wanted = (request.expression, request.is_text, request.laterals)
        if wanted not in known:
            requests.append(request)
            known.append(wanted)
        column = f"lj:{known.index(wanted) + 1}"
        users = self.used_by.setdefault((topic.lower(), column), [])
        if join not in users:
            users.append(join)
        return column

    def definitions(self) -> dict[str, list[tuple[str, bool, str]]]:
        """The indexes per topic, as topic tables take them."""
        return {
            t: [(r.expression, r.is_text, r.laterals) for r in rs]
            for t, rs in self.by_topic.items()
        }
