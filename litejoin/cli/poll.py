"""`litejoin poll -c FILE SOURCE`: one poll of an api source, shown and not stored."""

import sys
from collections.abc import Sequence
from pathlib import Path

from litejoin.cli.args import CommandParser, add_config_options, whole_number


def run(argv: Sequence[str]) -> int:
    """Print what a poll does. Returns 0, 1 when the poll failed or did not show everything that
    was asked for, 2 for a bad config or source name.
    """
    parser = CommandParser(
        "poll",
        "Poll an api source once and store nothing: the requests, the pages, the rate-limit headers"
        " and what would be created, updated and deleted.",
        "litejoin poll -c shop.yaml orders-api --pages 2 --show",
    )
    add_config_options(parser)
    add_source_options(parser)
    parser.add_argument("--show", action="store_true", help="print the records that changed too")
    parser.add_argument(
        "--replay",
        metavar="DIR",
        help="take the answers from what `litejoin record` kept; nothing is sent",
    )
    options = parser.parse(argv)
    # Only now: `poll --help` needs neither the compiler nor HTTP.
    from litejoin.cli.poll_text import poll_text, records_text
    from litejoin.cli.polling import Poller

    poller = Poller.from_options(options)
    if poller is None:
        return 2
    replayed = Path(options.replay) if options.replay else None
    found = poller.poll(poller.replay(replayed) if replayed else poller.network(), options.pages)
    sys.stdout.write(poll_text(found))
    if options.show:
        sys.stdout.write(records_text(found.report))
    short = found.report.incomplete and not options.pages
    return 1 if found.report.error or short else 0


def add_source_options(parser: CommandParser) -> None:
    """What `poll` and `record` share: the source, and how far it is walked."""
    parser.add_argument("source", metavar="SOURCE", help="name of the api source")
    parser.add_argument(
        "--pages",
        type=whole_number(1),
        metavar="N",
        help="stop after N pages (default: as the config says)",
    )
