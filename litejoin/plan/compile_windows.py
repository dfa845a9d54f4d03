"""A window of the document -> its plan. Called by `compile_joins`, which knows the topics.

What SQLite thinks of the query was asked before; here are the rules of windows themselves.
"""

from zoneinfo import ZoneInfo

from litejoin.plan.compile_panes import NoPanes, compile_panes
from litejoin.plan.nodes import PanePlan, Reason, WindowPlan
from litejoin.plan.section import Section
from litejoin.plan.sql_errors import BadQuery, SqlFinding

DAY_MS = 86_400_000


def compile_window(
    section: Section, topic: str, columns: tuple[str, ...], sinks: tuple[str, ...]
) -> WindowPlan:
    """The plan of one window whose query gives `columns`. Raises BadQuery for a key beside the
    query that does not fit it.
    """
    size, gap = section.maybe_duration_ms("size"), section.maybe_duration_ms("gap")
    lateness = section.duration_ms("allowed_lateness")
    on_late = section.value["on_late"]
    panes, no_panes = _panes(section, columns)
    held = None if size is None else (size + lateness) * (2 if on_late == "update" else 1)
    return WindowPlan(
        name=section.text("name"),
        type=section.value["type"],
        topic=topic,
        query=section.text("query"),
        place=section.place("query"),
        size_ms=size,
        slide_ms=section.maybe_duration_ms("slide"),
        gap_ms=gap,
        buffer_bound_ms=held,
        sinks=sinks,
        allowed_lateness_ms=lateness,
        columns=columns,
        panes=panes,
        no_panes=no_panes,
        key_index=_key_index(section, columns),
        json_columns=section.columns("json_columns", columns),
        time_path=section.maybe_text("time_path"),
        time_format=section.value["time_format"],
        on_late=on_late,
        late_sink=section.maybe_text("late_sink"),
        partition_by=section.maybe_text("partition_by"),
        offset_ms=section.maybe_duration_ms("offset") or 0,
        timezone=_timezone(section, size),
        emit=section.value.get("emit", "close"),
        idle_timeout_ms=section.duration_ms("idle_timeout"),
    )


def _panes(section: Section, columns: tuple[str, ...]) -> tuple[PanePlan | None, Reason | None]:
    """The query in panes, or why it cannot be had from them."""
    kind = section.value["type"]
    if kind == "session":
        return None, Reason("the spans of sessions are not known beforehand", None)
    if section.maybe_text("timezone") is not None:
        return None, Reason("days of a time zone are not of one length", None)
    try:
        return compile_panes(section.text("query"), columns), None
    except NoPanes as why:
        place = section.document.place_in(section.at("query"), why.offset)
        return None, Reason(str(why), place)


def _key_index(section: Section, columns: tuple[str, ...]) -> int | None:
    name = section.maybe_text("key_column")
    if name is None:
        return None
    lowered = [column.lower() for column in columns]
    if name.lower() not in lowered:
        message = f'key_column names "{name}", which is not in the output'
        hint = f"the query returns {', '.join(columns)}"
        raise BadQuery(SqlFinding("key-column", message, 0, 0, hint))
    return lowered.index(name.lower())


def _timezone(section: Section, size_ms: int | None) -> str | None:
    name = section.maybe_text("timezone")
    if name is None:
        return None
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        message = f'there is no time zone "{name}"'
        hint = "names are those of the IANA database, such as Europe/Berlin"
        raise BadQuery(SqlFinding("timezone", message, 0, 0, hint)) from None
    if not size_ms or size_ms % DAY_MS:
        message = "timezone is for windows of whole days"
        hint = "size: 24h, or a multiple of it; other sizes are the same in every time zone"
        raise BadQuery(SqlFinding("timezone", message, 0, 0, hint))
    return name
