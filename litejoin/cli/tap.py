"""`litejoin tap -c FILE [NAME...]`: watch a running pipeline, one line for each change and result.

Reads GET /tap of the pipeline's admin listener with the config's admin token. Opens no file of the
data directory. Ends with Ctrl-C, after `--limit` lines, or when the pipeline stops.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from litejoin.cli.args import CommandParser, add_config_options, whole_number
from litejoin.cli.config import load_plan
from litejoin.cli.findings import use_colors
from litejoin.clock import SystemClock
from litejoin.config.text import printable
from litejoin.errors import LiteJoinError
from litejoin.plan.nodes import Address, ServerPlan

SIGNS = {"created": "+", "upsert": "~", "updated": "~", "delete": "-", "deleted": "-"}
COLORS = {"+": "32", "~": "33", "-": "31"}

MAX_TEXT_CHARS = 160
"""Of a payload or rows in the text form; the JSON form has all of it."""

READ_TIMEOUT_S = 60.0
"""A live pipeline sends an empty line every 15 s; one that is silent for so long is gone."""

MAX_ERROR_BYTES = 64 * 1024


def run(argv: Sequence[str]) -> int:
    """Watch. Returns 0, 1 when no pipeline answers or it refuses, 2 for a bad config."""
    options = _parser().parse(argv)
    plan = load_plan(options)
    if plan is None:
        return 2
    try:
        shown = 0
        for line in _lines(plan.server, options, plan.name):
            print(line if options.format == "json" else _text(json.loads(line)), flush=True)
            shown += 1
            if shown == options.limit:
                break
    except KeyboardInterrupt:
        pass
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "tap",
        "Show the changes of topics and the results of joins and windows while a pipeline runs.",
        "litejoin tap -c shop.yaml orders order-user",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a topic, join or window to show; default: all"
    )
    add_config_options(parser)
    parser.add_argument(
        "--url", metavar="URL", help="where the pipeline answers, if not at server.addr"
    )
    parser.add_argument("--limit", type=whole_number(1), metavar="N", help="end after N lines")
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the lines"
    )
    return parser


def _lines(server: ServerPlan, options: Namespace, pipeline: str) -> Iterator[str]:
    """The lines of the stream as they come. Blocks. Raises LiteJoinError."""
    import urllib3  # only when a stream is opened

    base = options.url or _url(server)
    url = f"{base.rstrip('/')}/tap?{urlencode([('name', name) for name in options.names])}"
    timeout = urllib3.Timeout(connect=5.0, read=READ_TIMEOUT_S)
    trusted = None if server.tls_cert_file is None else str(server.tls_cert_file)
    try:
        with urllib3.PoolManager(ca_certs=trusted, retries=False) as pool:
            answer = pool.request(
                "GET", url, headers=_headers(server), timeout=timeout, preload_content=False
            )
            if answer.status != 200:
                raise LiteJoinError(_refusal(base, answer.status, answer.read(MAX_ERROR_BYTES)))
            if not options.url:
                _refuse_other(base, answer.headers.get("LiteJoin-Pipeline", pipeline), pipeline)
            sys.stderr.write(f"watching {base}; Ctrl-C ends\n")
            yield from _split(answer.stream(None))
    except urllib3.exceptions.HTTPError as error:
        raise LiteJoinError(
            f"no pipeline answers at {base}: {error}",
            hint="is it running? --url names another address",
        ) from None


def _url(server: ServerPlan) -> str:
    host = server.addr.host
    reached = Address("127.0.0.1" if host in ("", "0.0.0.0", "::") else host, server.addr.port)
    return f"{'http' if server.tls_cert_file is None else 'https'}://{reached}"


def _headers(server: ServerPlan) -> dict[str, str]:
    tokens = [str(token.value) for token in server.tokens if "admin" in token.scopes]
    return {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}


def _refusal(base: str, status: int, body: bytes) -> str:
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        reason = "no answer of a pipeline that can be watched"
    return f"{base} answered {status}: {reason}"


def _refuse_other(base: str, found: str, wanted: str) -> None:
    """Two pipelines without `server.addr`: the second one has had to take another port."""
    if found != wanted:
        raise LiteJoinError(
            f"at {base} is the pipeline {found}, not {wanted}",
            hint=f"the log of {wanted} says where it listens: --url, or server.addr for good",
        )


def _split(pieces: Iterator[bytes]) -> Iterator[str]:
    """Whole lines without those that are empty."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in lines if line)


def _text(line: Mapping[str, Any]) -> str:
    """One event as a person reads it."""
    if "skipped" in line:
        return f"... {line['skipped']} more that came too fast to be shown"
    is_result = "query" in line
    sign = SIGNS[line["op"]]
    what = line.get("rows") if is_result else line.get("payload")
    text = "" if sign == "-" else json.dumps(what, ensure_ascii=False)
    if len(text) > MAX_TEXT_CHARS:
        text = text[: MAX_TEXT_CHARS - 3] + "..."
    name = f"=> {line['query']}" if is_result else line["topic"]
    key = line["key"] if isinstance(line["key"], str) else json.dumps(line["key"])
    shown = printable(f"{name:<18} {key:<14} {text}".rstrip())
    if use_colors(sys.stdout):
        sign = f"\x1b[{COLORS[sign]}m{sign}\x1b[0m"
    at = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).astimezone()
    return f"{at:%H:%M:%S} {sign} {shown}"
