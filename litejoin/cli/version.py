"""`litejoin version`: the versions a bug report needs. Opens nothing."""

import platform
from collections.abc import Sequence

import apsw

from litejoin import __version__
from litejoin.cli.args import CommandParser


def run(argv: Sequence[str]) -> int:
    """Print three lines: litejoin, SQLite (with its source id) and Python. Returns 0."""
    parser = CommandParser("version", "Print the versions of litejoin, SQLite and Python.")
    parser.parse(argv)
    print(f"litejoin {__version__}")
    print(f"sqlite   {apsw.sqlite_lib_version()} ({apsw.sqlite3_sourceid()})")
    print(f"python   {platform.python_version()} ({platform.system()} {platform.machine()})")
    return 0
