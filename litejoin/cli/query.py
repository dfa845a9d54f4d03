"""`litejoin query SQL -c FILE`: one SELECT over all rows of the topics, archived ones too.

Reads the data directory of a running or a stopped pipeline and changes nothing. SQLite runs the
query; DuckDB, which only finds rows in Parquet files, is imported when there is an archive.
"""

import csv
import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from litejoin.archive.cache import CloudFiles
from litejoin.archive.duck import Duck
from litejoin.archive.relation import TierTables
from litejoin.archive.tiers import Tiers
from litejoin.cli.args import CommandParser, add_config_options
from litejoin.cli.config import load_plan
from litejoin.errors import CorruptionError, QueryError
from litejoin.plan.nodes import Plan
from litejoin.plan.sql import authorize, output_columns, topics_in
from litejoin.plan.sql_errors import BadQuery
from litejoin.store.layout import Layout
from litejoin.store.manifest import load_manifest

DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024
"""Of DuckDB, where the config has no archive but the directory has."""

ATTEMPTS = 3
"""A file that was merged into another while the query began is found there by the next attempt."""


def run(argv: Sequence[str]) -> int:
    """Answer. Returns 0, 1 for a query that failed, 2 for a bad config or query."""
    options = _parser().parse(argv)
    plan = load_plan(options)
    if plan is None:
        return 2
    try:
        wanted = topics_in(options.sql)
        columns = output_columns(options.sql, wanted)
    except BadQuery as error:
        sys.stderr.write(f"litejoin query: {error}\n")
        return 2
    if not Layout(plan.storage.data_dir).manifest.exists():
        sys.stderr.write(f"litejoin query: nothing was run yet in {plan.storage.data_dir}\n")
        return 1
    for attempt in range(ATTEMPTS):
        try:
            rows = _answer(plan, options, wanted)
            break
        except CorruptionError:
            if attempt == ATTEMPTS - 1:
                raise
    _print(columns, rows, options.format)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "query",
        "Run one SELECT over the topics of a pipeline: rows in SQLite and rows in the archive.",
        "litejoin query \"SELECT key, payload ->> '$.amount' FROM orders\" -c shop.yaml",
    )
    parser.add_argument("sql", help="a SELECT in SQLite's SQL over topics")
    add_config_options(parser)
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="form of the answer"
    )
    parser.add_argument(
        "--as-of",
        metavar="TIME",
        type=_time_ms,
        help="rows as they were then: RFC 3339, or Unix seconds",
    )
    return parser


def _answer(plan: Plan, options: Namespace, wanted: Sequence[str]) -> list[tuple[Any, ...]]:
    layout, shards = Layout(plan.storage.data_dir), plan.storage.shard_count
    catalogue = {n.lower(): number for n, number in load_manifest(layout, shards).topics.items()}
    unknown = [name for name in wanted if name.lower() not in catalogue]
    if unknown:
        known = ", ".join(sorted(catalogue)) or "none"
        raise QueryError(f"no topic {unknown[0]!r} in {layout.root}", hint=f"topics: {known}")
    archive = plan.storage.archive
    memory_bytes = archive.memory_limit_bytes if archive else DEFAULT_MEMORY_BYTES
    with tempfile.TemporaryDirectory(prefix="litejoin-") as spill:
        duck = Duck(memory_bytes, Path(spill))
        cloud = CloudFiles.of(archive.cloud, layout) if archive else None
        tiers = Tiers(layout, shards, duck, as_of_ms=options.as_of, cloud=cloud)
        tables = TierTables(tiers, {name.lower(): catalogue[name.lower()] for name in wanted})
        connection = tables.open()
        try:
            return _run(connection, options.sql)
        finally:
            connection.close()
            tiers.close()
            duck.close()


def _run(connection: apsw.Connection, sql: str) -> list[tuple[Any, ...]]:
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    connection.authorizer = authorize
    try:
        return connection.execute(sql).fetchall()
    except apsw.Error as error:
        raise QueryError(f"the query failed: {error}") from error


def _time_ms(text: str) -> int:
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is no time: RFC 3339, or Unix seconds") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _print(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: str) -> None:
    if form == "json":
        objects = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
        print(json.dumps(objects, ensure_ascii=False, indent=1))
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows(map(_plain, row) for row in rows)
    else:
        for line in _table(columns, rows):
            print(line)


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Columns side by side; control characters escaped, since payloads come from outside."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    yield _line(columns, widths)
    yield _line(["-" * width for width in widths], widths)
    for row in cells:
        yield _line(row, widths)


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    text = str(_plain(value))
    return text if text.isprintable() else json.dumps(text)
