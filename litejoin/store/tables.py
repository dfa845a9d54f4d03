"""Makes the numbered tables of topics and sources in every shard. Used by the store's flush thread.

Tables that a crash left unmade (the catalogue is written first) are made at the next start.
"""

from collections.abc import Callable, Mapping, Sequence

import apsw

from litejoin.store import shard as shards
from litejoin.store.failures import storage_error
from litejoin.store.manifest import SourceEntry


class TableMaker:
    """Knows which tables exist; the shards were asked once, when it was made."""

    def __init__(
        self, connections: Sequence[apsw.Connection], has_time_index: Callable[[str], bool]
    ) -> None:
        self._connections = connections
        self._has_time_index = has_time_index
        self._topics: set[str] = set()
        self._sources: set[str] = set()

    def lacks(self, topics: Mapping[str, int], sources: Mapping[str, SourceEntry]) -> bool:
        """Is there a name whose tables `make` has not seen to?"""
        return len(topics) > len(self._topics) or len(sources) > len(self._sources)

    def make(self, topics: Mapping[str, int], sources: Mapping[str, SourceEntry]) -> None:
        """Create what is missing, one transaction a shard. Blocks. Raises StorageError and its kin;
        what was not made is tried again by the next call.
        """
        new_topics = [name for name in topics if name not in self._topics]
        new_sources = [name for name in sources if name not in self._sources]
        for number, connection in enumerate(self._connections):
            try:
                self._make_in(
                    connection,
                    {topics[name]: self._has_time_index(name) for name in new_topics},
                    [sources[name].number for name in new_sources],
                )
            except apsw.Error as error:
                raise storage_error(error, number) from error
        self._topics.update(new_topics)
        self._sources.update(new_sources)

    def _make_in(
        self, connection: apsw.Connection, topics: Mapping[int, bool], sources: Sequence[int]
    ) -> None:
        present = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        missing_topics = {
            number: timed
            for number, timed in topics.items()
            if f"t{number}_key" not in present or (f"t{number}_time" in present) != timed
        }
        missing_sources = [number for number in sources if f"s{number}_key" not in present]
        if not missing_topics and not missing_sources:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for number, timed in missing_topics.items():
                shards.create_topic_table(connection, number, time_index=timed)
            for number in missing_sources:
                shards.create_state_table(connection, number)
            connection.execute("COMMIT")
        except apsw.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
