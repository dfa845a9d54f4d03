"""`litejoin run -c FILE`: the production daemon."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from litejoin.cli.args import CommandParser, add_config_options
from litejoin.cli.config import Loaded, load, plan_json, report
from litejoin.cli.streams import settle_stdout
from litejoin.plan.nodes import Plan
from litejoin.store.layout import Layout
from litejoin.store.lock import refuse_if_held

if TYPE_CHECKING:  # HTTP and native modules are loaded after the lock was looked at
    from litejoin.sources.api.transport import Transport

GRACEFUL_TIMEOUT_S = 25.0


def run(argv: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT. 0 clean drain, 2 config, 3 data_dir in use, 4 refused, 1
    else.
    """
    parser = CommandParser(
        "run", "Run a pipeline until SIGTERM or Ctrl-C.", "litejoin run -c shop.yaml"
    )
    add_config_options(parser)
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )
    parser.add_argument(
        "--graceful-timeout",
        type=_seconds,
        default=GRACEFUL_TIMEOUT_S,
        metavar="SECONDS",
        help=f"longest drain after SIGTERM (default {GRACEFUL_TIMEOUT_S:g})",
    )
    parser.add_argument(
        "--replay",
        action="append",
        default=[],
        metavar="SOURCE=DIR",
        help="take this api source's answers from a recording, and keep all data in a temporary"
        " directory instead of data_dir; can be repeated",
    )
    options = parser.parse(argv)
    loaded = load(options)
    if loaded.plan is None:
        report(loaded)
        return 2
    if not options.replay:
        return _run(options, loaded, loaded.plan, {})
    from litejoin.cli.replay import replay_transports, temporary_plan

    transports = replay_transports(loaded, options.replay)
    with temporary_plan(loaded.plan) as plan:
        return _run(options, loaded, plan, transports)


def _run(
    options: Namespace, loaded: Loaded, plan: Plan, transports: "Mapping[str, Transport]"
) -> int:
    refuse_if_held(Layout(plan.storage.data_dir).lock)
    import uvloop

    from litejoin.clock import SystemClock
    from litejoin.runtime.app import App, refuse_unsupported
    from litejoin.runtime.logs import set_up_logs

    refuse_unsupported(plan)
    set_up_logs(options.log_format, options.log_level)

    async def main() -> int:
        clock, timeout_s = SystemClock(), options.graceful_timeout
        shown = partial(plan_json, loaded, plan)
        return await App(plan, clock, timeout_s, shown, transports).run()

    code = uvloop.run(main())
    settle_stdout()  # the pipeline ended as it did, whether or not somebody reads of it
    return code


def _seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise ValueError("must be seconds from 0 to 3600")
    return value
