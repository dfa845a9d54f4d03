"""The process that answers /snapshot for times whose rows are in the archive.

Started by litejoin.runtime.history as `python -m litejoin.runtime.historian` when it is first
asked, and kept: what it has verified and opened makes later answers quick. It evaluates a join's
query over hot and archived rows as the engine does over hot ones, with the same native code, so the
same rows give the same bytes. Reads only.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from litejoin._ext.evaluate import Evaluator
from litejoin.archive.cache import CloudFiles
from litejoin.archive.cloud import CloudSettings, ObjectStore
from litejoin.archive.duck import Duck
from litejoin.archive.frames import Header
from litejoin.archive.paths import ArchivePaths
from litejoin.archive.relation import TierTables
from litejoin.archive.serving import serve_parent
from litejoin.archive.tiers import Tiers
from litejoin.clock import SystemClock
from litejoin.engine.state import SCHEMA
from litejoin.errors import CorruptionError, QueryError
from litejoin.records import rfc3339
from litejoin.store.layout import Layout
from litejoin.store.log import ResultLog
from litejoin.store.manifest import load_manifest
from litejoin.store.sqlite import open_database

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of one answer, which is held whole."""

ATTEMPTS = 3
"""A file that was merged into another meanwhile is found there by the next attempt."""


@dataclass(frozen=True, slots=True)
class AskedJoin:
    """What of a join's plan its evaluation needs."""

    name: str
    sql: str
    topics: list[str]
    columns: list[str]
    key_column: str
    key_index: int
    json_columns: list[str]
    ordered: bool


class Historian:
    """The methods that requests name. One thread."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._verified: set[tuple[str, int]] = set()

    def open(
        self,
        data_dir: str,
        pipeline: str,
        shard_count: int,
        memory_limit_bytes: int,
        joins: Sequence[Mapping[str, Any]],
        cloud: Mapping[str, Any] | None,
        cache_bytes: int,
    ) -> Header:
        """Remember what there is to ask about."""
        self._layout, self._shard_count = Layout(Path(data_dir)), shard_count
        self._joins = {join["name"]: AskedJoin(**join) for join in joins}
        spill = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="litejoin-"))
        self._duck = Duck(memory_limit_bytes, Path(spill))
        self._closing.callback(self._duck.close)
        manifest = load_manifest(self._layout, shard_count)
        self._log = ResultLog(self._layout.state, pipeline, manifest.epoch)
        self._closing.callback(self._log.close)
        self._cloud = None
        if cloud is not None:
            settings = CloudSettings(**cloud)
            folder = ArchivePaths(self._layout.archive).cache
            self._cloud = CloudFiles(folder, lambda: ObjectStore(settings), cache_bytes)
        return {}

    def results(
        self,
        joins: Sequence[str],
        keys: Sequence[str] | None,
        from_ms: int,
        to_ms: int | None,
        limit: int,
    ) -> tuple[Header, bytes]:
        """The results of some joins as of `to_ms` that differ from those as of `from_ms`.

        `keys` are JSON texts. The bytes are result objects, one a line: those that are not current
        results first.
        """
        archived: list[bytes] = []
        current: list[tuple[int, bytes]] = []
        for name in joins:
            found = self._evaluate(self._joins[name], keys, to_ms)
            before = self._evaluate(self._joins[name], keys, from_ms - 1)
            changed = {key: rows for key, rows in found.items() if before.get(key) != rows}
            now = {r.key: r for r in self._log.snapshot((name,), changed.keys(), 2**31)[0]}
            for key, rows in changed.items():
                if key in now and now[key].rows == rows:
                    current.append((now[key].pos, now[key].body()))
                else:
                    archived.append(_body(name, key, rows))
        bodies = [*archived, *(body for _, body in sorted(current))]
        text = b"\n".join(bodies[:limit])
        if len(text) > MAX_BODY_BYTES:
            raise QueryError(
                f"the answer is larger than {MAX_BODY_BYTES // 2**20} MiB",
                hint="ask with keys, a smaller limit, or a later from",
            )
        return {"truncated": len(bodies) > limit}, text

    def _evaluate(
        self, join: AskedJoin, keys: Sequence[str] | None, as_of_ms: int | None
    ) -> dict[str, str]:
        for attempt in range(ATTEMPTS):
            try:
                return self._evaluate_once(join, keys, as_of_ms)
            except CorruptionError:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _evaluate_once(
        self, join: AskedJoin, keys: Sequence[str] | None, as_of_ms: int | None
    ) -> dict[str, str]:
        """The result of each key, as JSON."""
        numbers = load_manifest(self._layout, self._shard_count).topics
        by_name = {name.lower(): number for name, number in numbers.items()}
        known = {name.lower(): by_name[name.lower()] for name in join.topics}
        with (
            closing(
                Tiers(
                    self._layout, self._shard_count, self._duck,
                    as_of_ms=as_of_ms, verified=self._verified, cloud=self._cloud,
                )
            ) as tiers,
            closing(TierTables(tiers, known).open()) as host,
            closing(open_database("")) as state,
        ):  # fmt: skip
            state.execute(SCHEMA)
            with closing(Evaluator(host, state)) as evaluator:
                handle = evaluator.add_join(
                    1, join.columns, join.key_index, json_columns=join.json_columns,
                    ordered=join.ordered, refresh_sql=_of_keys(join, keys), full=True,
                )  # fmt: skip
                with state:
                    evaluator.refresh(handle, 0, 0, 0, max_bytes=sys.maxsize)
            return dict(state.execute("SELECT key, rows FROM log"))

    def close(self) -> None:
        """Let go of everything."""
        self._closing.close()


def _of_keys(join: AskedJoin, keys: Sequence[str] | None) -> str:
    """The query, or only its results with some keys: SQLite asks by key where that is the same."""
    if keys is None:
        return join.sql
    column = join.key_column.replace('"', '""')
    values = ", ".join(_literal(json.loads(key)) for key in keys)
    return f'SELECT * FROM ({join.sql}) WHERE "{column}" IN ({values})'


def _literal(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "NULL"
    return repr(value) if isinstance(value, int | float) else apsw.format_sql_value(str(value))


def _body(name: str, key: str, rows: str) -> bytes:
    when = rfc3339(SystemClock().now_ms())
    return (
        f'{{"query":"{name}","key":{key},"rows":{rows},"emit_at":"{when}","op":"upsert",'
        '"archived":true}'
    ).encode()


if __name__ == "__main__":
    serve_parent(Historian())
