"""`litejoin why SINK KEY -c FILE`: the last result of a key and the inputs that it was made of.

Reads the data directory of a running or a stopped pipeline and changes nothing. The inputs are the
topics' rows as they are now: one that was written after the result is marked.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import apsw

from litejoin.cli.args import CommandParser, add_config_options
from litejoin.cli.config import load_plan
from litejoin.config.text import printable
from litejoin.delivery.ledger import Ledger
from litejoin.engine.inputs import InputRow, TopicReader, Value
from litejoin.plan.inputs import inputs_query
from litejoin.plan.nodes import JoinPlan, Plan, WindowPlan
from litejoin.records import Result, ResultOp, rfc3339
from litejoin.sinks.sse.params import key_texts
from litejoin.store.layout import Layout
from litejoin.store.log import ResultLog

MAX_COMBINATIONS = 10_000
"""Rows that the inputs query may give; beyond that an aggregate's inputs are a sample."""

SHOWN = 20
"""Inputs of a topic in the text form; the JSON form has all."""

OPS = {0: "message", 1: "created", 2: "updated"}

Inputs = Mapping[str, Collection[InputRow]]
"""Rows by topic."""


def run(argv: Sequence[str]) -> int:
    """Answer. Returns 0, 1 when there is no result of the key, 2 for a bad config or sink."""
    options = _parser().parse(argv)
    plan = load_plan(options)
    if plan is None:
        return 2
    views: list[JoinPlan | WindowPlan] = [*plan.joins, *plan.windows]
    views = [view for view in views if options.sink in view.sinks]
    if not views:
        known = ", ".join(sink.name for sink in plan.sinks)
        problem = f"no join or window writes to {options.sink!r}; sinks: {known}"
        sys.stderr.write(f"litejoin why: {problem}\n")
        return 2
    if not Layout(plan.storage.data_dir).state.exists():
        sys.stderr.write(f"litejoin why: nothing was run yet in {plan.storage.data_dir}\n")
        return 1
    found = list(_answers(plan, views, options))
    if options.format == "json":
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        for answer in found:
            print("\n".join(_text(answer)))
    if not found:
        sys.stderr.write(f"litejoin why: no result of {options.key!r} for {options.sink}\n")
    return 0 if found else 1


def _parser() -> CommandParser:
    parser = CommandParser(
        "why",
        "Show the last result of a key for a sink, and the inputs that it was made of.",
        "litejoin why webhook-out order_123 -c shop.yaml",
    )
    parser.add_argument("sink", help="name of the sink")
    parser.add_argument("key", help="key of the result; 5 is the text and the number")
    add_config_options(parser)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the answer"
    )
    return parser


def _answers(
    plan: Plan, views: Sequence[JoinPlan | WindowPlan], options: Namespace
) -> Iterator[dict[str, Any]]:
    topics = [topic.name for topic in plan.topics]
    reader = TopicReader(plan.storage.data_dir, plan.storage.shard_count, topics)
    log = ResultLog(Layout(plan.storage.data_dir).state, plan.name, reader.epoch)
    try:
        for view in views:
            for key in sorted(key_texts(options.key)):
                result = log.last(view.name, key)
                if result is not None:
                    yield _answer(plan, view, result, reader, options.sink)
    finally:
        log.close()
        reader.close()


def _answer(
    plan: Plan, view: JoinPlan | WindowPlan, result: Result, reader: TopicReader, sink: str
) -> dict[str, Any]:
    if isinstance(view, WindowPlan):
        topics = [view.topic]
        rows, note = _window_inputs(view, result, reader)
    else:
        topics = sorted({r.topic for r in view.references})
        rows, note = _join_inputs(view, result, reader)
    fed_by = {topic.name: list(topic.fed_by) for topic in plan.topics}
    return {
        "join": view.name,
        **json.loads(result.body()),
        "delivery": _delivery(plan, sink, result),
        "note": note,
        "inputs": [
            {
                "topic": topic,
                "key": row_key,
                "timestamp": rfc3339(timestamp_ms),
                "op": OPS.get(op),
                "sources": fed_by.get(topic, []),
                "changed_since": timestamp_ms > result.emit_at_ms,
            }
            for topic in rows
            for row_key, timestamp_ms, op in sorted(rows[topic], key=lambda row: (-row[1], row))
        ],
        **({"topics": topics} if note else {}),
    }


def _join_inputs(join: JoinPlan, result: Result, reader: TopicReader) -> tuple[Inputs, str]:
    """The rows of each topic, and why they are not all, or "" when they are."""
    query = inputs_query(join, MAX_COMBINATIONS)
    if isinstance(query, str):
        return {}, query
    key: Value = json.loads(result.key)
    try:
        return reader.rows(query.sql, key, query.topics), ""
    except apsw.Error as error:
        return {}, f"its inputs cannot be asked for: {error}"


def _window_inputs(window: WindowPlan, result: Result, reader: TopicReader) -> tuple[Inputs, str]:
    """The messages of the span, as far as they are kept."""
    if result.start_ms is None or result.end_ms is None:
        return {}, "it has no span"
    found = reader.messages(window, result, MAX_COMBINATIONS)
    note = ""
    if window.key_index is not None:
        note = "these are all messages of the window, of which the key's rows are a part"
    if not found:
        note = "the messages of a window that has closed are not kept"
        if window.time_path is None and window.partition_by is None:
            span = result.start_ms, result.end_ms
            found = reader.written_between(window.topic, *span, MAX_COMBINATIONS)
            note += "; these are the rows that are still as they were written in its span"
    return {window.topic: found}, note


def _delivery(plan: Plan, sink: str, result: Result) -> str:
    """What has become of the result at the sink, in a few words."""
    if any(s.name == sink and s.type == "sse" for s in plan.sinks):
        return "sent to whoever was subscribed"
    if not plan.delivery.dlq.path.exists():
        return "not yet"
    ledger = Ledger.read(plan.delivery.dlq.path)
    try:
        waiting = ledger.db.execute(
            "SELECT attempts, error FROM dlq WHERE sink = ? AND id = ?", (sink, result.id)
        ).fetchone()
        cursor = ledger.db.execute("SELECT pos FROM cursors WHERE sink = ?", (sink,)).fetchone()
    finally:
        ledger.close()
    if waiting:
        return f"in the dead-letter queue after {waiting[0]} attempts: {waiting[1]}"
    return "done" if cursor and int(str(cursor[0])) >= result.pos else "not yet"


def _text(answer: Mapping[str, Any]) -> Iterator[str]:
    key = printable(json.dumps(answer["key"], ensure_ascii=False))
    op = "deleted" if answer["op"] == ResultOp.DELETE.name.lower() else "result"
    yield f"{answer['join']} {key}: {op} at {answer['emit_at']}, seq {answer['seq']}"
    yield f"  id        {answer['id']}"
    yield f"  delivery  {answer['delivery']}"
    for row in answer["rows"][:SHOWN]:
        yield f"  row       {_shown(row)}"
    if "window" in answer:
        yield f"  window    {answer['window']['start']} to {answer['window']['end']}"
    if answer["note"]:
        what = "" if answer["inputs"] else "unknown: "
        yield f"  inputs    {what}{answer['note']}; topics: {', '.join(answer['topics'])}"
    elif not answer["inputs"]:
        yield "  inputs    none now: what it was made of is gone"
    for entry in answer["inputs"][:SHOWN]:
        since = "  changed since" if entry["changed_since"] else ""
        sources = " or ".join(entry["sources"]) or "no source of this config"
        yield (
            f"  input     {entry['topic']} {_shown(entry['key'])}  {entry['timestamp']}"
            f"  {entry['op']}  from {sources}{since}"
        )
    if len(answer["inputs"]) > SHOWN:
        yield f"  ...       {len(answer['inputs']) - SHOWN} more inputs (--format json)"


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)
