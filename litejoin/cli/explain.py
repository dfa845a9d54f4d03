"""`litejoin explain CODE`: what a finding of `validate` means, an example, and how to fix it.

The codes of errors, such as LJ-LOCK, are known, too.
"""

import inspect
from collections.abc import Sequence
from difflib import get_close_matches

from litejoin.cli.args import CommandParser
from litejoin.config.codes import CODES
from litejoin.errors import LiteJoinError, error_classes
from litejoin.plan.layout import wrapped


def run(argv: Sequence[str]) -> int:
    """Print the entry of a code, or a list of all codes. Returns 0."""
    parser = CommandParser(
        "explain",
        "Explain a code of `litejoin validate` or of an error; without a code, list those of"
        " validate.",
        "litejoin explain LJ241",
    )
    parser.add_argument("code", nargs="?", metavar="CODE", help="such as LJ103")
    options = parser.parse(argv)
    if options.code is None:
        for code, rule in CODES.items():
            print(f"{code}  {rule.level:<7}  {rule.title}")
        return 0
    code = options.code.upper()
    errors = error_classes()
    if code in errors:
        print(error_entry(errors[code]))
        return 0
    if code not in CODES:
        near = get_close_matches(code, [*CODES, *errors], n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "litejoin explain lists all codes"
        parser.error(f"unknown code {options.code!r}; {hint}")
    print(entry(code))
    return 0


def entry(code: str) -> str:
    """The text about a code of the registry: title, cause, example, fix."""
    rule = CODES[code]
    lines = [
        f"{code} {rule.level}: {rule.title}",
        "",
        *wrapped(rule.cause, 0),
        "",
        "Example:",
        *(f"    {line}" for line in rule.example.splitlines()),
        "",
        *wrapped(f"Fix: {rule.fix}", 5),
    ]
    return "\n".join(lines)


def error_entry(error: type[LiteJoinError]) -> str:
    """The text about the code of an error class: what it means, and whether to try again."""
    about = " ".join((inspect.getdoc(error) or "").split())
    again = (
        "It is tried again by itself." if error.retriable else "It is not tried again by itself."
    )
    return "\n".join([f"{error.code} error: {error.__name__}", "", *wrapped(f"{about} {again}", 0)])
