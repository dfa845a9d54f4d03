"""`litejoin run -c FILE`: the production daemon."""

from collections.abc import Sequence

from litejoin.cli.args import CommandParser, add_config_options
from litejoin.cli.config import load, plan_json, report
from litejoin.store.layout import Layout
from litejoin.store.lock import refuse_if_held

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
    options = parser.parse(argv)
    loaded = load(options)
    plan = loaded.plan
    if plan is None:
        report(loaded)
        return 2

    refuse_if_held(Layout(plan.storage.data_dir).lock)
    import uvloop

    from litejoin.clock import SystemClock
    from litejoin.runtime.app import App, refuse_unsupported
    from litejoin.runtime.logs import set_up_logs

    refuse_unsupported(plan)
    set_up_logs(options.log_format, options.log_level)

    async def main() -> int:
        clock, timeout_s = SystemClock(), options.graceful_timeout
        return await App(plan, clock, timeout_s, lambda: plan_json(loaded, plan)).run()

    return uvloop.run(main())


def _seconds(text: str) -> float:
    value = float(text.removesuffix("s"))
    if not 0 <= value <= 3600:
        raise ValueError("must be between 0 and 3600 seconds")
    return value
