"""`litejoin reshard -c FILE --shards N`: another number of shard files, while nothing runs.

May be killed at any moment: the next run goes on. The config's own `storage.shard_count` is not
looked at; it is to be set to N before the next start.
"""

import json
import sys
from collections.abc import Sequence

from litejoin.cli.args import CommandParser, add_config_options, whole_number
from litejoin.cli.config import load_plan
from litejoin.plan.nodes import KafkaSourcePlan, Plan
from litejoin.sources.kafka.offsets import spread_offsets
from litejoin.store.layout import Layout
from litejoin.store.reshard import Positions, abandon, reshard

MAX_SHARDS = 256


def run(argv: Sequence[str]) -> int:
    """0: done, 1: damage, 2: usage or config, 3: in use, 4: refused."""
    options = _parser().parse(argv)
    plan = load_plan(options)
    if plan is None:
        return 2
    if (options.shards is None) == (not options.abandon):
        sys.stderr.write("litejoin reshard: say --shards N, or --abandon\n")
        return 2
    layout = Layout(plan.storage.data_dir)
    if options.abandon:
        print("abandoned" if abandon(layout, plan.name) else "there is nothing to abandon")
        return 0
    quiet = options.format == "json"
    say = _say_nothing if quiet else _tell
    done = reshard(layout, options.shards, plan.name, _positions(plan), say)
    rows = sum(pair[0] for pair in done.sums.values())
    if quiet:
        print(json.dumps({"from": done.old, "to": done.new, "rows": rows}))
    else:
        print(f"{rows:,} rows from {done.old} to {done.new} shards, counted and checked")
        print(f"set storage.shard_count: {done.new}")
    return 0


def _positions(plan: Plan) -> dict[str, Positions]:
    return {s.name: spread_offsets for s in plan.sources if isinstance(s, KafkaSourcePlan)}


def _say_nothing(text: str) -> None:
    """The answer alone is JSON."""


def _tell(text: str) -> None:
    print(text, flush=True)


def _parser() -> CommandParser:
    parser = CommandParser(
        "reshard",
        "Spread the stored keys over another number of shard files. Stop the pipeline first. A run"
        " that was cut is continued by the next one.",
        "litejoin reshard -c shop.yaml --shards 16",
    )
    add_config_options(parser)
    parser.add_argument(
        "--shards", type=whole_number(1, MAX_SHARDS), metavar="N", help="the new number of shards"
    )
    parser.add_argument(
        "--abandon", action="store_true", help="give up a run that has not moved anything yet"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the answer"
    )
    return parser
