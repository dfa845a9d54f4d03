"""`litejoin schema`: the JSON Schemas of the config language and of the plan."""

import sys
from collections.abc import Sequence

from litejoin.cli.args import CommandParser
from litejoin.config.schema import CONFIG_FILE, PLAN_DIFF_FILE, PLAN_FILE, schema_text


def run(argv: Sequence[str]) -> int:
    """Print the schema as it is shipped. Returns 0."""
    parser = CommandParser(
        "schema",
        "Print the JSON Schema (draft 2020-12) of the config. Editors with the YAML language server"
        " complete and check a config that starts with the line"
        " # yaml-language-server: $schema=./litejoin.schema.json",
        "litejoin schema > litejoin.schema.json",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="print the schema of what `litejoin plan --format json` prints instead",
    )
    parser.add_argument(
        "--plan-diff",
        action="store_true",
        help="print the schema of what `litejoin plan --diff OTHER --format json` prints instead",
    )
    options = parser.parse(argv)
    if options.plan and options.plan_diff:
        parser.error("--plan and --plan-diff are two schemas; give one of them")
    file = PLAN_FILE if options.plan else PLAN_DIFF_FILE if options.plan_diff else CONFIG_FILE
    sys.stdout.write(schema_text(file))
    return 0
