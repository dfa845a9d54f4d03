"""`litejoin record -c FILE SOURCE DIR`: the answers of a real API, redacted, for `--replay`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from litejoin.cli.args import CommandParser, add_config_options
from litejoin.cli.poll import add_source_options


def run(argv: Sequence[str]) -> int:
    """Poll once and keep the answers. Returns 0, 1 when the poll failed (what came is kept), 2 for
    a bad config, source name or directory.
    """
    parser = CommandParser(
        "record",
        "Poll an api source once and keep its answers in a new directory, for --replay of `poll`"
        " and `run`. Credentials are taken out; the records are kept as they are.",
        "litejoin record -c shop.yaml orders-api fixtures/orders --redact email",
    )
    add_config_options(parser)
    add_source_options(parser)
    parser.add_argument("directory", metavar="DIR", help="a directory that is empty or not there")
    parser.add_argument(
        "--redact",
        action="append",
        default=[],
        metavar="FIELD",
        help="take out the texts and numbers of this JSON field as well; can be repeated",
    )
    options = parser.parse(argv)
    from litejoin.cli.poll_text import poll_text
    from litejoin.cli.polling import Poller

    poller = Poller.from_options(options, fields=options.redact)
    if poller is None:
        return 2
    directory = Path(options.directory)
    transport, writer = poller.recording(directory)
    found = poller.poll(transport, options.pages)
    sys.stdout.write(poll_text(found))
    replay = f"litejoin poll -c {options.config} {options.source} --replay {directory}"
    count = f"{len(writer)} answer" if len(writer) == 1 else f"{len(writer)} answers"
    sys.stdout.write(f"\n{count} in {directory}, to be played back by\n  {replay}\n")
    return 1 if found.report.error else 0
