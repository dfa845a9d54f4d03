"""Reads what a result is made of, from a data directory that may be in use: rows, messages.

Called by the `why` command, in a process of its own: read-only connections, so that a running
pipeline is neither stopped nor disturbed. Without key maps: a join that is not by key is a scan,
seconds for a million rows.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from litejoin._ext.topic import TopicTables
from litejoin.engine.windows.buffer import partition_column
from litejoin.plan.nodes import WindowPlan
from litejoin.records import Result
from litejoin.store.layout import Layout
from litejoin.store.manifest import load_manifest
from litejoin.store.shard import open_reader
from litejoin.store.sqlite import open_memory, open_readonly

Value = str | int | float | bytes | None
InputRow = tuple[str, int, int]
"""key, timestamp in Unix ms, op (1 created, 2 updated, 0 a message)."""


class TopicReader:
    """The topics of a data directory as relations. Close it."""

    def __init__(self, data_dir: Path, shard_count: int, topics: Iterable[str]) -> None:
        """Raises StartRefusedError when the directory is not one of this config."""
        layout = Layout(data_dir)
        manifest = load_manifest(layout, shard_count)
        self.epoch = manifest.epoch
        self._state = layout.state
        self._numbers = dict(manifest.topics)
        self._readers = [open_reader(layout.shard(number)) for number in range(shard_count)]
        self._host = open_memory()
        self._tables = TopicTables(self._host, self._readers)
        for topic in topics:
            if topic in manifest.topics:
                self._tables.define(topic, manifest.topics[topic], ())

    def rows(self, sql: str, key: Value, topics: tuple[str, ...]) -> Mapping[str, set[InputRow]]:
        """The distinct rows of each topic among the answers to a query of `plan.inputs`.

        Raises apsw.Error for a query that cannot be asked so.
        """
        found: dict[str, set[InputRow]] = {topic: set() for topic in topics}
        for answer in self._host.execute(sql, (key,)):
            for number, topic in enumerate(topics):
                row_key, timestamp_ms, op = answer[3 * number : 3 * number + 3]
                if row_key is not None:
                    found[topic].add((str(row_key), int(str(timestamp_ms)), _op(op)))
        return found

    def messages(self, window: WindowPlan, result: Result, limit: int) -> list[InputRow]:
        """The messages of the result's span, and of its partition when that is its key, as far as
        they are still buffered: at most until no window needs them.
        """
        state = open_readonly(self._state)
        try:
            definition = [self._numbers.get(window.topic), window.time_path, window.time_format]
            stream = state.execute(
                "SELECT id FROM window_streams WHERE definition = ?", (json.dumps(definition),)
            ).fetchone()
            if stream is None:
                return []
            where = "time_ms >= ? AND time_ms < ?"
            bindings: list[int | str | None] = [result.start_ms, result.end_ms]
            if window.partition_by is not None and window.key_index is None:
                where += f" AND {partition_column(window.partition_by)} IS json_extract(?, '$')"
                bindings.append(result.key)
            rows = state.execute(
                f"SELECT key, time_ms FROM window_{stream[0]} WHERE {where}"
                " ORDER BY time_ms, n LIMIT ?",
                (*bindings, limit),
            )
            return [(str(key), int(str(time_ms)), 0) for key, time_ms in rows]
        finally:
            state.close()

    def written_between(self, topic: str, start_ms: int, end_ms: int, limit: int) -> list[InputRow]:
        """The topic's rows with a timestamp in [start, end)."""
        sql = (
            f'SELECT key, timestamp_ms, op FROM "{topic}"'  # names hold no quotes
            " WHERE timestamp_ms >= ? AND timestamp_ms < ? LIMIT ?"
        )
        return [
            (str(key), int(str(timestamp_ms)), _op(op))
            for key, timestamp_ms, op in self._host.execute(sql, (start_ms, end_ms, limit))
        ]

    def close(self) -> None:
        """Close every connection."""
        self._tables.close()
        self._host.close()
        for reader in self._readers:
            reader.close()


def _op(value: object) -> int:
    return value if isinstance(value, int) else {"created": 1, "updated": 2}.get(str(value), 0)
