"""`litejoin dlq list|show|retry|purge -c FILE`: the results that a sink did not take.

Opens dlq.db beside a running pipeline, or without one; a running pipeline sees a change within a
second. `list` and `show` only read the file. Never creates it and touches no other.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from litejoin.cli.args import CommandParser, add_config_options
from litejoin.cli.config import load_plan
from litejoin.clock import SystemClock
from litejoin.config.text import suggestion
from litejoin.config.values import parse_duration_ms
from litejoin.delivery import dlq
from litejoin.delivery.dlq import Selection
from litejoin.delivery.ledger import Ledger
from litejoin.errors import ConfigError
from litejoin.plan.nodes import Plan

COLUMNS = ("id", "sink", "join", "key", "attempts", "next_retry_at", "error")

MAX_KEY_CHARS = 40
"""Of a key in the text listing; the JSON listing has all of it."""


def run(argv: Sequence[str]) -> int:
    """Do one action. Returns 0, 1 when `show` finds nothing, 2 for a bad config."""
    options = _parser().parse(argv)
    plan = load_plan(options)
    if plan is None:
        return 2
    if options.action == "purge" and not _narrowed(options):
        sys.stderr.write("litejoin dlq: purge needs a filter, or --all to give everything up\n")
        return 2
    if not plan.delivery.dlq.path.exists():
        return _nothing(options, plan)
    ledger = _opened(plan, options)
    try:
        _refuse_unknown(ledger, plan, options)
        if options.action == "retry":
            _say_who_gets_none(ledger, plan, _selection(options))
        return _ACTIONS[options.action](ledger, options, _selection(options))
    finally:
        ledger.close()


def _parser() -> CommandParser:
    parser = CommandParser(
        "dlq",
        "List, show, retry or purge the results that a sink did not take.",
        "litejoin dlq retry -c shop.yaml --sink webhook-out --older-than 1h",
    )
    parser.add_argument("action", choices=tuple(_ACTIONS), help="what to do")
    parser.add_argument(
        "ids", nargs="*", default=[], metavar="ID", help="only the results with these ids"
    )
    add_config_options(parser)
    parser.add_argument("--sink", metavar="NAME", help="only results for this sink")
    parser.add_argument("--join", metavar="NAME", help="only results of this join")
    parser.add_argument("--key", metavar="KEY", help="only results of this key")
    parser.add_argument(
        "--id", action="append", default=[], metavar="ID", help="the same as an ID above"
    )
    parser.add_argument(
        "--older-than",
        type=parse_duration_ms,
        metavar="DURATION",
        help="only entries queued longer ago, such as 1h30m",
    )
    parser.add_argument("--all", action="store_true", help="let purge take everything")
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the list"
    )
    return parser


def _opened(plan: Plan, options: Namespace) -> Ledger:
    path, is_replicated = plan.delivery.dlq.path, plan.replication is not None
    if options.action in ("list", "show"):
        return Ledger.read(path)
    return Ledger(path, durable=True, create=False, is_replicated=is_replicated)


def _refuse_unknown(ledger: Ledger, plan: Plan, options: Namespace) -> None:
    """A name that is neither in the config nor in the queue would select nothing, silently."""
    joins = {join.name for join in plan.joins} | {window.name for window in plan.windows}
    sinks = {sink.name for sink in plan.sinks}
    for kind, name, known in (("sink", options.sink, sinks), ("join", options.join, joins)):
        if name is None or name in known:
            continue
        if next(dlq.entries(ledger, Selection(**{kind: name})), None) is None:
            near = suggestion(name, known)
            hint = f'did you mean "{near}"?' if near else f"there are: {', '.join(sorted(known))}"
            raise ConfigError(f"no {kind} {name!r} in the config or in the queue", hint=hint)


def _say_who_gets_none(ledger: Ledger, plan: Plan, selection: Selection) -> None:
    """Of a sink that was renamed or removed nothing is sent."""
    used = {sink for join in plan.joins for sink in join.sinks}
    for window in plan.windows:
        used |= {*window.sinks, window.late_sink or ""}
    for sink, count in dlq.count_by_sink(ledger, selection).items():
        if sink not in used:
            sys.stderr.write(
                f"litejoin dlq: nothing is sent to {sink}, which the config does not use: {count}"
                " of its results wait until it does, or for their ttl\n"
            )


def _selection(options: Namespace) -> Selection:
    before_ms = None
    if options.older_than is not None:
        before_ms = SystemClock().now_ms() - options.older_than
    ids = (*options.ids, *options.id)
    return Selection(options.sink, options.join, options.key, ids or None, before_ms)


def _narrowed(options: Namespace) -> bool:
    filters = (options.sink, options.join, options.key, options.older_than)
    named = options.all or options.ids or options.id
    return bool(named) or any(value is not None for value in filters)


def _nothing(options: Namespace, plan: Plan) -> int:
    sys.stderr.write(f"no dead-letter queue yet: {plan.delivery.dlq.path} does not exist\n")
    if options.action == "list" and options.format == "json":
        print("[]")
    return 1 if options.action == "show" else 0


def _list(ledger: Ledger, options: Namespace, selection: Selection) -> int:
    found = dlq.entries(ledger, selection)
    if options.format == "json":
        _print_json(found)
        return 0
    rows = [[_cell(column, entry[column]) for column in COLUMNS] for entry in found]
    widths = [max(len(row[n]) for row in [*rows, COLUMNS]) for n in range(len(COLUMNS))]
    for row in [COLUMNS, *rows] if rows else []:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print(f"{len(rows)} {'entry' if len(rows) == 1 else 'entries'}")
    return 0


def _print_json(found: Iterator[dict[str, Any]]) -> None:
    """One entry a line, written as they come: a full queue is not held in memory."""
    separator = "[\n"
    for entry in found:
        sys.stdout.write(separator + json.dumps(entry, ensure_ascii=False))
        separator = ",\n"
    print("\n]" if separator == ",\n" else "[]")


def _cell(column: str, value: object) -> str:
    absent = "parked" if column == "next_retry_at" else "null"
    text = absent if value is None else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= MAX_KEY_CHARS else text[: MAX_KEY_CHARS - 3] + "..."


def _show(ledger: Ledger, _options: Namespace, selection: Selection) -> int:
    entry = next(dlq.entries(ledger, selection), None)
    if entry is None:
        sys.stderr.write("no such entry\n")
        return 1
    body = dlq.body(ledger, Selection(sink=entry["sink"], ids=(entry["id"],)))
    print(json.dumps(entry, ensure_ascii=False, indent=2))
    if body is not None:
        print(body.decode())
    return 0


def _retry(ledger: Ledger, _options: Namespace, selection: Selection) -> int:
    count = dlq.retry(ledger, selection, SystemClock().now_ms())
    print(f"{count} to be sent again, at once by a running pipeline, else at its next start")
    return 0


def _purge(ledger: Ledger, _options: Namespace, selection: Selection) -> int:
    gone = dlq.purge(ledger, selection)
    for sink, entry_id in gone:
        print(f"purged {entry_id} for sink {sink}")
    print(f"{len(gone)} purged")
    return 0


_ACTIONS = {"list": _list, "show": _show, "retry": _retry, "purge": _purge}
