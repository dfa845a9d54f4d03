"""Where things are inside a data directory; nothing here touches the disk but a listing.

Files:
lock            held (flock) by the running process, names it
manifest.json   format version, shard count, epoch, topics, sources
marks           commit high-water mark of each shard
quarantine.json shards that are out of service, and why; only while there are any
shard-0000.db   topics and diff state, one file a shard
reshard/        new shard files while their number is changed (store.reshard)
restore.json    names of restored files that are not one directory yet (litejoin.replica)
state.db        the engine's results log and state
catalogue.db    copy of manifest.json that can be replicated; only with replication
dlq.db          delivery's cursors and dead letters (its path can be configured)
archive/        Parquet files of rows that are no longer kept here (litejoin.archive)
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one data directory."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def marks(self) -> Path:
        return self.root / "marks"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine.json"

    @property
    def reshard(self) -> Path:
        return self.root / "reshard"

    @property
    def restoring(self) -> Path:
        return self.root / "restore.json"

    @property
    def state(self) -> Path:
        return self.root / "state.db"

    @property
    def catalogue(self) -> Path:
        return self.root / "catalogue.db"

    @property
    def dlq(self) -> Path:
        return self.root / "dlq.db"

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    def shard(self, number: int) -> Path:
        return self.root / f"shard-{number:04d}.db"

    def shard_numbers(self) -> list[int]:
        """Numbers of the shard files that exist, ascending."""
        names = (path.stem.removeprefix("shard-") for path in self.root.glob("shard-*.db"))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def wal_of(path: Path) -> Path:
    """The write-ahead log beside a database file."""
    return path.with_name(path.name + "-wal")
