"""The standard streams of a command that somebody closed, or whose reader went away.

Used by `main` around every command, and by `run`, which goes on without its log. Opens /dev/null
in their place and nothing else.
"""

import os
import sys
from io import TextIOWrapper


def open_closed() -> None:
    """Put /dev/null where 0, 1 or 2 is closed (`>&-`): a data file must not get that number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    streams: list[TextIOWrapper | None] = [sys.stdout, sys.stderr]  # type: ignore[list-item]
    if streams[0] is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if streams[1] is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")


def settle_stdout() -> None:
    """Write out what is buffered. What nobody takes is forgotten: Python would complain again when
    it ends, and change the exit code.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
