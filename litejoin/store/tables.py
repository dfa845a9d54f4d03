"""Makes the numbered tables of topics and sources in every shard. Used by the store's flush thread.

Each shard also says whose its tables are, in the transaction that makes them: a file that is
restored is worth nothing without that, and the catalogue's copy may be a moment older.

Tables that a crash left unmade (the catalogue is written first) are made at the next start.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import apsw

from litejoin.store import shard as shards
from litejoin.store.failures import storage_error
from litejoin.store.manifest import SourceEntry


@dataclass(frozen=True, slots=True)
class Table:
    """A numbered table of a shard."""

    letter: str
    """t: a topic; d: the deleted keys of one; s: the diff state of a source."""
    number: int

    @property
    def name(self) -> str:
        return f"{self.letter}{self.number}"

    @property
    def is_state(self) -> bool:
        return self.letter == "s"


def tables_of(connection: apsw.Connection) -> list[Table]:
    """The numbered tables that a shard has."""
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    names = [str(name) for (name,) in connection.execute(query)]
    return [Table(n[0], int(n[1:])) for n in names if n[0] in "dst" and n[1:].isdigit()]


class TableMaker:
    """Knows which tables exist; the shards were asked once, when it was made."""

    def __init__(
        self,
        connections: Sequence[apsw.Connection],
        has_time_index: Callable[[str], bool],
        left_out: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        """`left_out`: shards that are not to be written at the moment."""
        self._connections = connections
        self._left_out = left_out
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
            if number in self._left_out():
                continue
            try:
                self._make_in(
                    connection,
                    {topics[name]: self._has_time_index(name) for name in new_topics},
                    [sources[name].number for name in new_sources],
                    {f"t{topics[name]}": name for name in new_topics}
                    | {f"s{sources[name].number}": name for name in new_sources},
                )
            except apsw.Error as error:
                raise storage_error(error, number) from error
        self._topics.update(new_topics)
        self._sources.update(new_sources)

    def make_deletes(self, topics: Collection[int]) -> None:
        """The tables of these topics' deleted keys. Otherwise as `make`."""
        for number, connection in enumerate(self._connections):
            if number in self._left_out():
                continue
            try:
                present = tables_of(connection)
                with connection:
                    for topic in topics:
                        if Table("d", topic) not in present:
                            shards.create_deletes_table(connection, topic)
            except apsw.Error as error:
                raise storage_error(error, number) from error

    def _make_in(
        self,
        connection: apsw.Connection,
        topics: Mapping[int, bool],
        sources: Sequence[int],
        names: Mapping[str, str],
    ) -> None:
        present = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        missing_topics = {
            number: timed
            for number, timed in topics.items()
            if f"t{number}_key" not in present or (f"t{number}_time" in present) != timed
        }
        missing_sources = [number for number in sources if f"s{number}_key" not in present]
        named = shards.names_of(connection)
        unnamed = [(table, name) for table, name in names.items() if named.get(table) != name]
        if not missing_topics and not missing_sources and not unnamed:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for number, timed in missing_topics.items():
                shards.create_topic_table(connection, number, time_index=timed)
            for number in missing_sources:
                shards.create_state_table(connection, number)
            connection.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", unnamed)
            connection.execute("COMMIT")
        except apsw.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
