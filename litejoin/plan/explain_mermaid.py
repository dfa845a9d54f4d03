"""The mermaid form of a plan: a flowchart from sources to sinks.

Called by `explain`. Takes a plan whose secrets are masked already. Nodes are numbered, so that no
name can be a keyword of mermaid; names appear as quoted labels only.
"""

from litejoin.plan.nodes import ApiSourcePlan, Plan, SourcePlan


def plan_mermaid(plan: Plan) -> str:
    """The flowchart as text, ready for a ```mermaid block."""
    chart = _Chart()
    for source in plan.sources:
        chart.node("source", source.name, f"{source.name}<br/>{source.type}", "([", "])")
        for fed in _fed(source, plan):
            chart.edge("source", source.name, "topic", fed)
        if isinstance(source, ApiSourcePlan) and source.parent_topic:
            chart.edge("topic", source.parent_topic, "source", source.name, "for each")
    for topic in plan.topics:
        chart.node("topic", topic.name, topic.name, "[(", ")]")
    _joins(chart, plan)
    for window in plan.windows:
        chart.node("window", window.name, f"{window.name}<br/>{window.type}", "[[", "]]")
        chart.edge("topic", window.topic, "window", window.name)
        for name in window.sinks:
            chart.edge("window", window.name, "sink", name)
        if window.late_sink:
            chart.edge("window", window.name, "sink", window.late_sink, "late")
    for sink in plan.sinks:
        chart.node("sink", sink.name, f"{sink.name}<br/>{sink.type}", "([", "])")
    return chart.text()


def _fed(source: SourcePlan, plan: Plan) -> tuple[str, ...]:
    if isinstance(source, ApiSourcePlan):
        return (source.topic,)
    # An http source without a list takes any topic, so it feeds all that the plan knows.
    return source.topics or tuple(topic.name for topic in plan.topics)


def _joins(chart: "_Chart", plan: Plan) -> None:
    windows = {window.name for window in plan.windows}
    for join in plan.joins:
        chart.node("join", join.name, f"{join.name}<br/>{join.strategy}", "[", "]")
        for reference in join.references:
            kind = "window" if reference.topic in windows else "topic"
            chart.edge(kind, reference.topic, "join", join.name)
        for name in join.sinks:
            chart.edge("join", join.name, "sink", name)


class _Chart:
    """Collects nodes and edges; each edge once, in the order first seen."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], str] = {}
        self._nodes: list[str] = []
        self._edges: dict[str, None] = {}

    def node(self, kind: str, name: str, label: str, opening: str, closing: str) -> None:
        text = label.replace('"', "#quot;")
        self._nodes.append(f'  {self._id(kind, name)}{opening}"{text}"{closing}')

    def edge(
        self, from_kind: str, from_name: str, to_kind: str, to_name: str, label: str = ""
    ) -> None:
        """An arrow; a labelled one is dotted, since not all of a part's records go that way."""
        arrow = f"-. {label} .->" if label else "-->"
        start, end = self._id(from_kind, from_name), self._id(to_kind, to_name)
        self._edges[f"  {start} {arrow} {end}"] = None

    def text(self) -> str:
        return "\n".join(["flowchart LR", *self._nodes, *self._edges]) + "\n"

    def _id(self, kind: str, name: str) -> str:
        # SQL and sinks name things without regard to case.
        return self._ids.setdefault((kind, name.lower()), f"{kind}{len(self._ids) + 1}")
