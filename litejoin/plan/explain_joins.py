"""The text form of a plan: its joins and windows.

Called by `explain_text`. Takes a plan whose secrets are masked already; decides nothing about it.
"""

from collections.abc import Iterable, Sequence

from litejoin.plan.layout import aligned, table, wrapped
from litejoin.plan.nodes import JoinPlan, Place, ReferencePlan, WindowPlan
from litejoin.plan.sql import scanned_topics
from litejoin.plan.steps import steps_text
from litejoin.plan.units import count_text, duration_text, rate_text

MINUTE_MS = 60_000


def join_lines(joins: Sequence[JoinPlan], file: str, with_sql: bool) -> Iterable[str]:
    """A paragraph for each join: head, references, how results are computed, what is in the way."""
    heads = aligned(
        [
            (j.name, f"key {j.key_column or '-'}", j.strategy, f"-> {', '.join(j.sinks)}")
            for j in joins
        ]
    )
    for number, (join, head) in enumerate(zip(joins, heads, strict=True)):
        if number:
            yield ""
        yield from head
        yield from _references(join)
        yield from _refresh(join)
        yield from _groups(join)
        if join.emit_expired:
            yield from wrapped("    follows the clock: run in full about once a second", 6)
        if join.on_change == "silent":
            text = "results that a change of the join itself makes are recorded, not delivered"
            yield from wrapped(f"    {text}", 6)
        yield from _reasons(join, file)
        if with_sql:
            yield from _statements(join)


def scans_of(join: JoinPlan) -> list[str]:
    """Aliases of topics that one of its delta queries reads in full; the judge allows none."""
    if join.strategy == "full":
        return []
    plans = [join.refresh_plan, *(reference.query_plan for reference in join.references)]
    return sorted({alias for plan in plans for alias in scanned_topics(plan)})


def accumulators(join: JoinPlan) -> list[str]:
    """The aggregates that are kept for each group, as the query has them; [] for other joins."""
    if join.grouped is None:
        return []
    return ["its number of rows", *(a.text for a in join.grouped.aggregates)]


def fires_per_minute(window: WindowPlan) -> float | None:
    """How many of its windows end in a minute; None for sessions, which end by themselves."""
    every_ms = window.slide_ms or window.size_ms
    return None if every_ms is None else MINUTE_MS / every_ms


def overlapping(window: WindowPlan) -> int:
    """In how many windows at once a message is."""
    if window.size_ms is None or not window.slide_ms:
        return 1
    return -(-window.size_ms // window.slide_ms)


def window_lines(windows: Sequence[WindowPlan], file: str) -> Iterable[str]:
    """A paragraph for each window: its bounds, what they cost, and who reads its results."""
    rows = [(w.name, w.type, w.topic, _bounds(w), f"-> {', '.join(w.sinks)}") for w in windows]
    for window, head in zip(windows, aligned(rows), strict=True):
        yield from head
        yield from wrapped(f"    {_pace(window)}", 6)
        yield from wrapped(f"    {_buffer(window)}", 6)
        yield from wrapped(f"    {_messages(window)}", 6)
        yield from wrapped(f"    {_rows(window, file)}", 6)
        if window.read_by:
            maps = [
                f"{i.column} key map on {i.path} ({', '.join(i.used_by)})" for i in window.indexes
            ]
            read = f"its current results are read by {', '.join(window.read_by)}"
            yield from wrapped(f"    {'; '.join([read, *maps])}", 6)


def _references(join: JoinPlan) -> list[str]:
    if join.strategy == "full":
        names = [_name(reference) for reference in join.references]
        return wrapped(f"    reads {', '.join(names)} anew on every change", 6)
    rows = [(_name(r), r.strategy, r.through, _found(r)) for r in join.references]
    return table(rows, 4)


def _found(reference: ReferencePlan) -> str:
    return f"keys from {steps_text(reference.query_plan)}" if reference.query_plan else ""


def _refresh(join: JoinPlan) -> Iterable[str]:
    if not join.refresh_plan:
        return
    steps = steps_text(join.refresh_plan)
    if join.strategy == "full":
        yield from wrapped(f"    every result from {steps}", 6)
        return
    scans = scans_of(join)
    judged = f"scans {', '.join(scans)}" if scans else "no topic is scanned"
    yield from wrapped(f"    results of those keys from {steps}; {judged}", 6)


def _groups(join: JoinPlan) -> Iterable[str]:
    if kept := accumulators(join):
        text = f"    kept for each group: {', '.join(kept)}; no group is read again for a change"
        yield from wrapped(text, 6)


def _reasons(join: JoinPlan, file: str) -> Iterable[str]:
    lost = "not incremental" if join.strategy == "full" else "not native"
    for reason in join.reasons:
        where = f"{_where(file, reason.place)}: " if reason.place else ""
        yield from wrapped(f"    {lost}: {where}{reason.message}", 6)
        if reason.rewrite:
            yield from wrapped(f"      rewrite: {reason.rewrite}", 15)


def _statements(join: JoinPlan) -> Iterable[str]:
    for reference in join.references:
        if reference.affected_sql:
            title = f"keys that changed rows of {_name(reference)} touch"
            yield from _statement(title, reference.affected_sql, reference.query_plan)
    title = "the query, for every change" if join.strategy == "full" else "results of those keys"
    yield from _statement(title, join.refresh_sql, join.refresh_plan)
    if join.refresh_null_sql:
        yield from _statement("results of the key NULL", join.refresh_null_sql, ())


def _statement(title: str, sql: str, query_plan: Sequence[str]) -> Iterable[str]:
    yield ""
    yield f"    -- {title}"
    for line in sql.splitlines():
        yield from wrapped(f"    {line}", 8)
    for line in query_plan:
        yield from wrapped(f"    --   {line}", 8)


def _name(reference: ReferencePlan) -> str:
    if reference.alias in ("", reference.topic):
        return reference.topic
    return f"{reference.topic} {reference.alias}"


def _where(file: str, place: Place) -> str:
    return f"{file}:{place.line}:{place.column}"


def _bounds(window: WindowPlan) -> str:
    parts = []
    for word, ms in (("size", window.size_ms), ("slide", window.slide_ms), ("gap", window.gap_ms)):
        if ms is not None:
            parts.append(f"{word} {duration_text(ms)}")
    parts.append(f"lateness {duration_text(window.allowed_lateness_ms)}")
    return ", ".join(parts)


def _pace(window: WindowPlan) -> str:
    rate = fires_per_minute(window)
    if rate is None:
        gap = duration_text((window.gap_ms or 0) + window.allowed_lateness_ms)
        return f"fires {gap} after the last message of a session"
    every = duration_text(window.slide_ms or window.size_ms or 0)
    fires = f"fires every {every} ({rate_text(rate)} a minute)"
    count = overlapping(window)
    return (
        fires if count == 1 else f"{fires}; a message is in {count_text(count, 'window')} at once"
    )


def _rows(window: WindowPlan, file: str) -> str:
    """Whether the window reads its messages again for each result, and why."""
    if window.uses_panes:
        return (
            f"merged from panes of {duration_text(window.pane_ms)}: a message is added up once,"
            " not read by each window"
        )
    if overlapping(window) == 1 and window.emit == "close":
        return "reads its messages once, when it fires"
    again = "for each result" if window.emit == "update" else "whenever it fires"
    if window.no_panes is None:
        return f"reads its messages {again}"
    where = f"{_where(file, window.no_panes.place)}: " if window.no_panes.place else ""
    return f"reads its messages {again}, no panes: {where}{window.no_panes.message}"


def _readers(window: WindowPlan) -> str:
    """The joins that read its results, and the key maps that they need."""
    maps = [f"{i.column} key map on {i.path} ({', '.join(i.used_by)})" for i in window.indexes]
    return "; ".join([f"its current results are read by {', '.join(window.read_by)}", *maps])


def _buffer(window: WindowPlan) -> str:
    if window.buffer_bound_ms is None:
        return "holds a message while its session lasts: no bound"
    terms = (
        "size + lateness, twice for late updates"
        if window.on_late == "update"
        else "size + lateness"
    )
    return f"holds a message for {duration_text(window.buffer_bound_ms)} at most ({terms})"


def _messages(window: WindowPlan) -> str:
    """Which time counts, whose windows they are, and what becomes of late messages."""
    time = f"event time at {window.time_path}" if window.time_path else "time of ingestion"
    whose = f", a window for each {window.partition_by}" if window.partition_by else ""
    late = {
        "drop": "late messages are dropped",
        "update": "late messages change the result",
        "sink": f"late messages go to {window.late_sink}",
    }[window.on_late]
    early = "; a result for every change before it closes" if window.emit == "update" else ""
    return f"{time}{whose}; {late}{early}"
