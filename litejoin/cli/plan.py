"""`litejoin plan -c FILE`: what a config will do and cost. Starts nothing, writes nothing."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from litejoin.cli.args import CommandParser, add_config_options
from litejoin.errors import ConfigError

FORMATS = ("text", "json", "mermaid")

EXIT_ERROR = 1
"""With --detailed-exitcode, where 2 means that something changes."""
EXIT_BAD_CONFIG = 2


def run(argv: Sequence[str]) -> int:
    """Print the plan or what it changes. Returns 0, or 2 when the config has errors, which go to
    stderr; with --detailed-exitcode 0 for no changes, 2 for changes, 1 for errors.
    """
    options = _options(argv)
    try:
        code = _compared(options) if options.diff or options.diff_data_dir else _shown(options)
    except ConfigError as error:
        if not options.detailed_exitcode:
            raise
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"litejoin: {error.code}: {' '.join(str(error).split())}{hint}\n")
        return EXIT_ERROR
    return code


def _options(argv: Sequence[str]) -> Namespace:
    parser = CommandParser(
        "plan",
        "Show what a config will do and cost; starts nothing and writes nothing.",
        "litejoin plan -c shop.yaml --format mermaid",
    )
    if "--detailed-exitcode" in argv or os.environ.get("LITEJOIN_DETAILED_EXITCODE"):
        parser.usage_exit_code = EXIT_ERROR
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
        "--diff",
        metavar="OTHER",
        help="show what changes when FILE takes the place of the config OTHER",
    )
    parser.add_argument(
        "--diff-data-dir",
        action="store_true",
        help="show what changes when FILE is started over the data directory it names; reads the"
        " directory without touching it, also while a daemon runs",
    )
    parser.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help="with --diff or --diff-data-dir: 0 no changes, 1 error, 2 changes",
    )
    parser.add_argument(
        "--no-env-check",
        action="store_true",
        help="put stand-ins where variables are not set, instead of refusing",
    )
    options = parser.parse(argv)
    _check(parser, options)
    return options


def _check(parser: CommandParser, options: Namespace) -> None:
    compares = bool(options.diff or options.diff_data_dir)
    if options.diff and options.diff_data_dir:
        parser.error("--diff and --diff-data-dir are two comparisons; give one of them")
    if compares and options.format == "mermaid":
        parser.error("a comparison has the forms text and json")
    if options.detailed_exitcode and not compares:
        parser.error("--detailed-exitcode tells about --diff or --diff-data-dir; give one of them")
    if options.diff == options.config == "-":
        parser.error("only one of the two configs can come from standard input")


def _shown(options: Namespace) -> int:
    # Only now: `plan --help` needs none of the compiler.
    from litejoin.cli.config import load, plan_json, report
    from litejoin.config.diagnostics import json_object
    from litejoin.plan.explain import explain

    loaded = load(options)
    if loaded.plan is None:
        report(loaded)
        return EXIT_BAD_CONFIG
    if options.format == "json":
        sys.stdout.write(plan_json(loaded, loaded.plan))
        return 0
    warnings = [json_object(finding) for finding in loaded.findings]
    sys.stdout.write(
        explain(loaded.plan, options.format, warnings, loaded.secrets, with_sql=options.sql)
    )
    return 0


def _compared(options: Namespace) -> int:
    from litejoin.cli.plan_diff import against_config, against_data_dir
    from litejoin.plan.explain_changes import explain_changes

    found = against_config(options) if options.diff else against_data_dir(options)
    if found is None:
        return EXIT_ERROR if options.detailed_exitcode else EXIT_BAD_CONFIG
    comparison, plan, secrets = found
    sys.stdout.write(explain_changes(comparison, plan, options.format, secrets))
    return 2 if options.detailed_exitcode and comparison.differs else 0
