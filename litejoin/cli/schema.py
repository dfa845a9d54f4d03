"""`litejoin schema`: the JSON Schema of the config language, for editors."""

import sys
from collections.abc import Sequence

from litejoin.cli.args import CommandParser
from litejoin.config.schema import schema_text


def run(argv: Sequence[str]) -> int:
    """Print the schema as it is shipped. Returns 0."""
    parser = CommandParser(
        "schema",
        "Print the JSON Schema (draft 2020-12) of the config. Editors with the YAML language server"
        " complete and check a config that starts with the line"
        " # yaml-language-server: $schema=./litejoin.schema.json",
        "litejoin schema > litejoin.schema.json",
    )
    parser.parse(argv)
    sys.stdout.write(schema_text())
    return 0
