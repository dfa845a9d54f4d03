"""Reads the topic rows that a result is made of, from a data directory that may be in use.

Called by the `why` command, in a process of its own: read-only connections, so that a running
pipeline is neither stopped nor disturbed. Without key maps: a join that is not by key is a scan,
seconds for a million rows.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from litejoin._ext.topic import TopicTables
from litejoin.store.layout import Layout
from litejoin.store.manifest import load_manifest
from litejoin.store.shard import open_reader
from litejoin.store.sqlite import open_memory

Value = str | int | float | bytes | None
InputRow = tuple[str, int, int]
"""key, timestamp in Unix ms, op (1 created, 2 updated)."""


class TopicReader:
    """The topics of a data directory as relations. Close it."""

    def __init__(self, data_dir: Path, shard_count: int, topics: Iterable[str]) -> None:
        """Raises StartRefusedError when the directory is not one of this config."""
        layout = Layout(data_dir)
        manifest = load_manifest(layout, shard_count)
        self.epoch = manifest.epoch
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

    def close(self) -> None:
        """Close every connection."""
        self._tables.close()
        self._host.close()
        for reader in self._readers:
            reader.close()


def _op(value: object) -> int:
    return value if isinstance(value, int) else {"created": 1, "updated": 2}.get(str(value), 0)
