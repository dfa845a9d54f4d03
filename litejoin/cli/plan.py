"""`litejoin plan -c FILE`: what a config will do and cost. Starts nothing, writes nothing."""

import sys
from collections.abc import Sequence

from litejoin.cli.args import CommandParser, add_config_options

FORMATS = ("text", "json", "mermaid")


def run(argv: Sequence[str]) -> int:
    """Print the plan. Returns 0, or 2 when the config has errors, which go to stderr."""
    parser = CommandParser(
        "plan",
        "Show what a config will do and cost; starts nothing and writes nothing.",
        "litejoin plan -c shop.yaml --format mermaid",
    )
    add_config_options(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="form of the plan (default: text)"
    )
    parser.add_argument(
        "--sql",
        action="store_true",
        help="add the delta statements of every join, and SQLite's plan of each, to the text form",
    )
    parser.add_argument(
        "--no-env-check",
        action="store_true",
        help="put stand-ins where variables are not set, instead of refusing",
    )
    options = parser.parse(argv)
    # Only now: `plan --help` needs none of the compiler.
    from litejoin.cli.config import load, report
    from litejoin.config.diagnostics import json_object
    from litejoin.plan.explain import explain

    loaded = load(options)
    if loaded.plan is None:
        report(loaded)
        return 2
    warnings = [json_object(finding) for finding in loaded.findings]
    sys.stdout.write(
        explain(loaded.plan, options.format, warnings, loaded.secrets, with_sql=options.sql)
    )
    return 0
