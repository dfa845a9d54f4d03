"""Where things are inside the archive directory; nothing here touches the disk but a listing.

manifest.db                   which files belong to the archive
lock                          held (flock) by the worker that writes
tmp/                          files being written; emptied at each start
cache/                        files that a query fetched from the object store
t<N>/<day>/<id>.parquet       rows of topic N whose time falls on that day (UTC)

`<id>` begins with 8 digits of the data directory's epoch, so that two pipelines may share a bucket.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

EPOCH_DIGITS = 8
_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class ArchivePaths:
    """The paths of one archive."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.db"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def file(self, name: str) -> Path:
        """A file by the name that the manifest has for it."""
        return self.root / name

    def present(self) -> Iterator[Path]:
        """The Parquet files that are there, whether the manifest has them or not."""
        return self.root.glob("t*/*/*.parquet")


def file_name(topic: int, day: int, epoch: str, number: int) -> str:
    """The name of a file, relative to the archive directory."""
    return f"t{topic}/{day_text(day)}/{epoch[:EPOCH_DIGITS]}-{number:08d}.parquet"


def number_of(path: Path, epoch: str) -> int | None:
    """The number in a file's name; None for one that this archive did not name so."""
    found = re.fullmatch(rf"{epoch[:EPOCH_DIGITS]}-(\d{{8,}})\.parquet", path.name)
    return None if found is None else int(found[1])


def manifest_name(epoch: str) -> str:
    """The name of the manifest's copy in an object store."""
    return f"manifest-{epoch[:EPOCH_DIGITS]}.db"


def day_text(day: int) -> str:
    """`2026-11-24`, of a day counted from 1970-01-01; days no calendar has are numbers."""
    try:
        return (_FIRST_DAY + timedelta(days=day)).isoformat()
    except OverflowError:
        return f"day{day}"
