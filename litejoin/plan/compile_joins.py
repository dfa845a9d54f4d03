"""Joins and windows of the document -> their plans, and findings about their queries.

Called by `compile`. What a query means is decided in `delta` and by SQLite; this module brings the
names together and gives every reason and mistake its place in the config file.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from litejoin.config.diagnostics import Diagnostic
from litejoin.config.semantic import unfed
from litejoin.plan.compile_windows import compile_window
from litejoin.plan.delta import IndexRegistry, JoinAnalysis, analyze_join
from litejoin.plan.native import native_plan
from litejoin.plan.native_groups import grouped_plan, is_grouped
from litejoin.plan.nodes import JoinPlan, Reason, ReferencePlan, WindowPlan, relation_of
from litejoin.plan.over_joins import Expanded, JoinTexts
from litejoin.plan.over_windows import relation_columns, relation_query, window_of, written
from litejoin.plan.paths import odd_paths
from litejoin.plan.query.grammar import reads_clock
from litejoin.plan.rewrites import rewrite_of
from litejoin.plan.section import Section
from litejoin.plan.shape import NotPlain
from litejoin.plan.sql import output_columns, topics_in
from litejoin.plan.sql_errors import BadQuery, SqlFinding
from litejoin.plan.tokens import tokenize
from litejoin.plan.unbounded import loose_table

TOPIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
"""As the schema has it: a query must not invent a topic that no source could feed."""

SQL_CODES = {
    "syntax": "LJ210",
    "no-such-topic": "LJ211",
    "no-such-column": "LJ212",
    "multiple-statements": "LJ213",
    "not-a-select": "LJ214",
    "forbidden": "LJ215",
    "key-column": "LJ216",
    "hidden-collation": "LJ224",
    "join-circle": "LJ220",
    "bad-path": "LJ226",
    "member-path": "LJ227",
}
"""Rule codes of the kinds of findings about a query."""

CODES_OF_KEYS = {
    "key-column": ("LJ216", "key_column"),
    "result-key": ("LJ216", "result_key"),
    "json-columns": ("LJ218", "json_columns"),
    "timezone": ("LJ116", "timezone"),
}
"""Kinds of findings that are about a key beside the query: the code and that key."""


class QueryCompiler:
    """Compiles the queries of one document over its topics; collects findings."""

    def __init__(self, topics: list[str], windows: Iterable[Section]) -> None:
        self.topics = topics
        """Names as first written. Queries may add more with `take_topics`."""
        self.registry = IndexRegistry()
        self.findings: list[Diagnostic] = []
        self._windows = {section.text("name").lower(): section for section in windows}
        self._broken: set[str] = set()
        """What has no query that can be used; findings tell of it, and not of its readers."""
        self._relations = [relation_of(section.text("name")) for section in self._windows.values()]
        self._read: dict[str, tuple[str, ...]] = {}
        self._expanded: dict[str, Expanded] = {}
        self._texts = JoinTexts({}, set(), self._columns_of)
        self._joins: dict[str, Section] = {}

    def take_joins(self, sections: Iterable[Section]) -> None:
        """Let queries read the results of these joins. Before `take_topics`."""
        self._joins = {section.text("name").lower(): section for section in sections}
        queries = {name: _trimmed(each.text("query")) for name, each in self._joins.items()}
        self._texts = JoinTexts(
            {**queries, **self._window_texts()},
            {topic.lower() for topic in self.topics},
            self._columns_of,
        )

    def give_up(self, names: Iterable[str]) -> None:
        """Let no query be judged that reads one of these where it was left out for a mistake."""
        self._broken.update({name.lower() for name in names} - {*self._joins, *self._windows})

    def _window_texts(self) -> dict[str, str]:
        """Queries over the results of windows; a window that cannot be used has none."""
        texts = {}
        for name, section in self._windows.items():
            try:
                columns = output_columns(section.text("query"), [section.text("topic")])
            except BadQuery:
                self._broken.add(name)
            else:
                texts[name] = relation_query(section.text("name"), columns)
        return texts

    def _columns_of(self, name: str, query: str) -> tuple[str, ...]:
        """The names of the results of a join or window, as they are delivered."""
        if name in self._windows:
            window = self._windows[name]
            return relation_columns(output_columns(window.text("query"), [window.text("topic")]))
        section = self._joins[name]
        columns = list(output_columns(query, topics_in(query)))
        renamed, key = section.maybe_text("result_key"), _key_column(section, tuple(columns))
        if renamed:
            lowered = [column.lower() for column in columns]
            columns[lowered.index(key.lower()) if key and key.lower() in lowered else 0] = renamed
        return tuple(columns)

    def _text(self, section: Section) -> Expanded:
        """The query with the joins it reads in place."""
        return self._expanded.get(section.pointer, Expanded(section.text("query")))

    def take_topics(self, section: Section) -> None:
        """Add the topics that the query of a join or window reads; SQLite says which."""
        query = section.text("query")
        is_join = section.text("name").lower() in self._joins
        if is_join and any(_names(section, name) for name in self._broken):
            return
        try:
            if is_join:
                expanded = self._texts.expanded(_trimmed(query), section.text("name"))
                if expanded.moved:
                    self._expanded[section.pointer] = expanded
            read = topics_in(self._text(section).text)
        except BadQuery as bad:
            self._refuse_moved(section, bad.finding)
            return
        for name in read:
            if not TOPIC_NAME.fullmatch(name) and not self._is_relation(section, name):
                start, end = _name_in(query, name)
                hint = "a topic's name has letters, digits, _, . and -, at most 128"
                message = f"no topic can have the name {name}"
                self._refuse(section, SqlFinding("no-such-topic", message, start, end, hint))
                return
        self._read[section.pointer] = read
        known = {name.lower() for name in (*self.topics, *self._windows, *self._relations)}
        self.topics += [name for name in read if name.lower() not in known]

    def _is_relation(self, section: Section, name: str) -> bool:
        """True for the results of a window that a query reads by the window's name."""
        return name in self._relations and section.pointer in self._expanded

    def read_by(self, section: Section) -> tuple[str, ...]:
        """The topics and windows that a query reads; empty when it cannot be used."""
        return self._read.get(section.pointer, ())

    def join(self, section: Section) -> JoinPlan | None:
        """The plan of a join; None when its query cannot be used, with a finding."""
        if section.pointer not in self._read:
            return None
        try:
            analysis = self._analysis(section)
        except BadQuery as bad:
            self._refuse_moved(section, bad.finding)
            return None
        self._warn_of_full(section, analysis)
        self._check_paths(section)
        query = self._text(section)
        follows = [section, *(self._joins[name] for name in query.reads if name in self._joins)]
        join = _join_plan(
            section, analysis, query, ages=any(each.value["emit_expired"] for each in follows)
        )
        return self._native(section, self._over_windows(section, join))

    def _over_windows(self, section: Section, join: JoinPlan) -> JoinPlan:
        """The join with the windows that it reads."""
        names = (window_of(name) for name in self.read_by(section))
        return replace(join, windows=tuple(name for name in names if name is not None))

    def window(self, section: Section) -> WindowPlan | None:
        """The plan of a window; None when its query cannot be used, with a finding."""
        if section.pointer not in self._read:
            return None
        try:
            topic = self._topic_of(section)
            columns = output_columns(section.text("query"), self.topics)
            _check_columns(section, columns)
            self._check_paths(section)
            return compile_window(section, topic, columns, sinks_of(section))
        except BadQuery as bad:
            self._refuse(section, bad.finding)
            return None

    def _topic_of(self, section: Section) -> str:
        """The window's topic as first written. Raises BadQuery when the query reads another."""
        topic = section.text("topic")
        for name in self.read_by(section):
            if name.lower() != topic.lower():
                start, end = _name_in(section.text("query"), name)
                message = f'a window\'s query reads its own topic "{topic}" only, not "{name}"'
                hint = "a join can read the topic and what else is needed"
                raise BadQuery(SqlFinding("no-such-topic", message, start, end, hint))
        return next(known for known in self.topics if known.lower() == topic.lower())

    def warn_of_unfed(self, section: Section, fed: Collection[str]) -> None:
        """A warning for every topic that a query reads and no source feeds."""
        if section.document.is_unknown(section.at("query")):
            return
        known = {name.lower() for name in (*fed, *self._windows, *self._relations)}
        known.add(section.text("topic").lower())  # a window's own topic is told where it is named
        for topic in self.read_by(section):
            elsewhere = section.pointer in self._expanded and not _names(section, topic)
            if topic.lower() not in known and not elsewhere:
                start, end = _name_in(section.text("query"), topic)
                self._find(section, "LJ217", *unfed(topic, fed), start, end)

    def _analysis(self, section: Section) -> JoinAnalysis:
        """The analysis of a join, after the checks that need its output columns only."""
        query = self._text(section).text
        relations = [*self.topics, *self._relations]
        columns = output_columns(query, relations)
        key_column = _key_column(section, columns)
        _check_columns(section, columns)
        self._warn_of_twins(section, columns)
        self._warn_of_product(section)
        return analyze_join(section.text("name"), query, key_column, relations, self.registry)

    def _native(self, section: Section, join: JoinPlan) -> JoinPlan:
        """An incremental join, made native where it can be; else with the reason why it is not."""
        if join.strategy != "delta":
            return join
        if join.windows:
            return self._delta_over(section, join)
        query = self._text(section).text
        given = (join.name, query, join.key_index, self.topics, self.registry)
        references = tuple(replace(r, strategy="native") for r in join.references)
        made = replace(join, strategy="native", references=references)
        try:
            if is_grouped(query):
                return replace(made, grouped=grouped_plan(*given))
            return replace(made, native=native_plan(*given))
        except NotPlain as why:
            place = section.document.place_in(
                section.at("query"), self._text(section).written(why.offset)
            )
            return replace(join, reasons=(Reason(str(why), place),))

    def _delta_over(self, section: Section, join: JoinPlan) -> JoinPlan:
        """A join that is not native, for it reads the results of a window."""
        offset, _ = _name_in(section.text("query"), join.windows[0])
        place = section.document.place_in(section.at("query"), offset)
        return replace(join, reasons=(Reason(f"the window {join.windows[0]} is read", place),))

    def _warn_of_full(self, section: Section, analysis: JoinAnalysis) -> None:
        name = section.text("name")
        for reason, offset in analysis.reasons:
            offset = self._text(section).written(offset)
            text = f'join "{name}" is re-evaluated in full on every change: {reason}'
            hint = rewrite_of(reason) or "litejoin plan shows the strategy of every join"
            end = _word_end(section.text("query"), offset)
            self._find(section, "LJ241", text, hint, offset, end)

    def _warn_of_product(self, section: Section) -> None:
        loose = loose_table(section.text("query"))
        if loose is not None:
            message = f"nothing ties {loose.name} to {loose.beside}: the join has a result for "
            message += "every row of one with every row of the other"
            hint = f"add a condition such as {loose.beside}.payload ->> '$.id' = {loose.name}.key"
            self._find(section, "LJ242", message, hint, loose.start, loose.end)

    def _warn_of_twins(self, section: Section, columns: tuple[str, ...]) -> None:
        for number, column in enumerate(columns):
            if column in columns[:number]:
                message = f'the query returns "{column}" twice; a JSON object holds one of the two'
                hint = f"give one of them another name: ... AS other_{column}"
                self._find(section, "LJ219", message, hint, 0, 1)
                return

    def _check_paths(self, section: Section) -> None:
        for finding in odd_paths(section.text("query")):
            self._refuse(section, finding)

    def _refuse_moved(self, section: Section, finding: SqlFinding) -> None:
        """A finding about the query with what it reads in place, told of the query as written."""
        moved = self._text(section)
        start, end = moved.written(finding.start), moved.written(finding.end)
        self._refuse(section, replace(finding, start=start, end=end))

    def _refuse(self, section: Section, finding: SqlFinding) -> None:
        code, key = CODES_OF_KEYS.get(finding.kind, (SQL_CODES.get(finding.kind, ""), "query"))
        if key == "query":
            self._find(section, code, finding.message, finding.hint, finding.start, finding.end)
            return
        self.findings.append(
            section.document.finding(code, section.at(key), finding.message, hint=finding.hint)
        )

    def _find(
        self, section: Section, code: str, message: str, hint: str, start: int, end: int
    ) -> None:
        """A finding about characters of a query; a long span is marked to the end of its line."""
        query = section.text("query")
        line_end = query.find("\n", start)
        end = max(start + 1, end if line_end < 0 else min(end, line_end))
        self.findings.append(
            section.document.finding(
                code, section.at("query"), message, hint=hint, offset=start, length=end - start
            )
        )


def sinks_of(section: Section) -> tuple[str, ...]:
    """The sinks of a join or window: `sink` or `sinks`."""
    return section.texts("sink") or section.texts("sinks")


def _key_column(section: Section, columns: tuple[str, ...]) -> str | None:
    """The output column that is the key. `result_key` may name it, too: then `key_column` can be an
    expression such as `o.key`, as configs of the original have it.
    """
    key_column = section.maybe_text("key_column")
    result_key = section.maybe_text("result_key")
    lowered = [column.lower() for column in columns]
    if result_key is None or result_key.lower() not in lowered:
        return key_column
    if key_column is None or key_column.lower() not in lowered:
        return result_key
    if key_column.lower() != result_key.lower():
        message = f'result_key "{result_key}" is another column of the output already'
        hint = f'remove result_key, or rename that column; the key is "{key_column}"'
        raise BadQuery(SqlFinding("result-key", message, 0, 0, hint))
    return key_column


def _check_columns(section: Section, columns: tuple[str, ...]) -> None:
    """Names beside the query must be output columns. Raises BadQuery."""
    lowered = {column.lower() for column in columns}
    for name in section.texts("json_columns"):
        if name.lower() not in lowered:
            message = f'json_columns names "{name}", which is not in the output'
            hint = f"the query returns {', '.join(columns)}"
            raise BadQuery(SqlFinding("json-columns", message, 0, 0, hint))


def _join_plan(
    section: Section, analysis: JoinAnalysis, query: Expanded, *, ages: bool
) -> JoinPlan:
    """`ages`: the join, or one that it reads, changes as time passes."""
    columns = _named(section, analysis)
    return JoinPlan(
        name=section.text("name"),
        query=section.text("query"),
        place=section.place("query"),
        columns=columns,
        key_column=columns[analysis.key_index],
        key_index=analysis.key_index,
        sinks=sinks_of(section),
        emit=section.value["emit"],
        on_delete=section.value["on_delete"],
        json_columns=section.columns("json_columns", columns),
        strategy=analysis.strategy,
        reasons=tuple(
            Reason(
                message,
                section.document.place_in(section.at("query"), query.written(offset)),
                rewrite_of(message),
            )
            for message, offset in analysis.reasons
        ),
        references=tuple(
            ReferencePlan(
                topic=window_of(reference.topic) or reference.topic,
                alias=reference.alias,
                strategy=reference.strategy,
                through=written(reference.through),
                index=reference.index,
                affected_sql=reference.affected_sql,
                query_plan=reference.query_plan,
            )
            for reference in analysis.references
        ),
        refresh_sql=analysis.refresh_sql,
        refresh_null_sql=analysis.refresh_null_sql,
        refresh_plan=analysis.refresh_plan,
        ordered=analysis.ordered,
        full_sql=analysis.full_sql,
        expanded=query.text if query.moved else "",
        emit_expired=ages and reads_clock(tokenize(query.text)),
        on_change=section.value["on_change"],
    )


def _named(section: Section, analysis: JoinAnalysis) -> tuple[str, ...]:
    """The names of the output columns as delivered: `result_key` renames the key's."""
    columns = list(analysis.columns)
    columns[analysis.key_index] = section.maybe_text("result_key") or analysis.key_column
    return tuple(columns)


def _trimmed(query: str) -> str:
    return query.rstrip().removesuffix(";").rstrip()


def _names(section: Section, name: str) -> bool:
    """True when a query names a topic itself."""
    tokens = tokenize(section.text("query"))
    return any(token.is_identifier and token.text.lower() == name.lower() for token in tokens)


def _word_end(query: str, start: int) -> int:
    """Where the word that starts at an offset ends."""
    ends = (token.end for token in tokenize(query) if token.start == start)
    return next(ends, start + 1)


def _name_in(query: str, name: str) -> tuple[int, int]:
    """Where a name stands in a query."""
    for token in tokenize(query):
        if token.is_identifier and token.text.lower() == name.lower():
            return token.start, token.end
    return 0, 1
