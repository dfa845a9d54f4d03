"""`litejoin init`: prints or writes a small config that works as it is.

The templates are complete files in `templates/`, validated in the tests like any other config.
"""

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from litejoin.cli.args import CommandParser

TEMPLATES = {
    "push-join": "orders and users pushed over HTTP, joined, watched over SSE",
    "poll-api": "a REST API polled and diffed, its changes sent to stdout and SSE",
}
DEFAULT_TEMPLATE = "push-join"


def template_text(name: str) -> str:
    """The text of a template of `TEMPLATES`."""
    return resources.files("litejoin.cli").joinpath("templates", f"{name}.yaml").read_text("utf-8")


def run(argv: Sequence[str]) -> int:
    """Print the template or write it to `-o FILE`. Returns 0, or 2 when the file exists."""
    parser = CommandParser(
        "init",
        "Print a small working config, or write it to a file.",
        "litejoin init push-join -o shop.yaml",
    )
    known = "; ".join(f"{name}: {what}" for name, what in TEMPLATES.items())
    parser.add_argument(
        "template", nargs="?", default=DEFAULT_TEMPLATE, metavar="TEMPLATE", choices=TEMPLATES,
        help=f"{known} (default: {DEFAULT_TEMPLATE})",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of stdout")
    options = parser.parse(argv)
    text = template_text(options.template)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    path = Path(options.output)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        parser.error(f"{path} exists already; choose another name or remove it")
    except OSError as error:
        parser.error(f"cannot write {path}: {error.strerror}")
    print(f"wrote {path}; next: litejoin plan -c {path}, then litejoin run -c {path}")
    return 0
