"""Files of the archive that only the object store has, fetched for queries and kept for the next.

The folder is bounded: the files that were used longest ago make room. Several processes may use it;
a file that another one deleted too early is missed like any file that is gone, and the query begins
again. What is here can be deleted at any time.
"""

import fcntl
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from litejoin.archive.cloud import ObjectStore, settings_of
from litejoin.archive.files import FileHash, hash_file
from litejoin.archive.manifest import ArchiveFile
from litejoin.archive.paths import ArchivePaths
from litejoin.errors import ObjectStoreError
from litejoin.plan.nodes import CloudPlan
from litejoin.store.failures import file_error
from litejoin.store.files import make_directory
from litejoin.store.layout import Layout

PART = ".part"
"""Ending of a download; its process holds a lock on it."""


class CloudFiles:
    """Local copies of objects. One thread; every method blocks on the network."""

    def __init__(self, folder: Path, store: Callable[[], ObjectStore], limit_bytes: int) -> None:
        """`store` is asked for when it is needed first. `limit_bytes`: of the whole folder; one
        larger file is kept all the same.
        """
        self._folder, self._store, self._limit_bytes = folder, cache(store), limit_bytes

    @classmethod
    def of(cls, cloud: CloudPlan | None, layout: Layout) -> "CloudFiles | None":
        """For the object store of a config, if it has one."""
        if cloud is None:
            return None
        store = partial(ObjectStore, settings_of(cloud))
        return cls(ArchivePaths(layout.archive).cache, store, cloud.cache_bytes)

    def groups(self, files: Iterable[ArchiveFile]) -> Iterator[list[ArchiveFile]]:
        """The files in groups that fit into the folder together; local ones take no room."""
        group: list[ArchiveFile] = []
        size = 0
        for file in files:
            needed = 0 if file.is_local else file.bytes
            if group and size + needed > self._limit_bytes:
                yield group
                group, size = [], 0
            group.append(file)
            size += needed
        if group:
            yield group

    def fetch(self, file: ArchiveFile, used: Collection[ArchiveFile]) -> Path:
        """A local copy of the file, whose bytes are those that were archived; `used` stay, too.

        Raises ObjectStoreError, StorageFullError and StorageIOError.
        """
        path = self._folder / Path(file.name).name
        try:
            with suppress(FileNotFoundError):
                if hash_file(path) == (file.bytes, file.hash):
                    os.utime(path)
                    return path
            make_directory(self._folder)
            self._make_room(file.bytes, {Path(each.name).name for each in used})
            self._download(file, path)
        except OSError as error:
            raise file_error(error, f"archive: {path}") from error
        return path

    def _download(self, file: ArchiveFile, path: Path) -> None:
        temporary = self._folder / f"{uuid.uuid4().hex}{PART}"
        found = FileHash()
        try:
            with temporary.open("xb") as target:
                os.fchmod(target.fileno(), 0o600)
                fcntl.flock(target, fcntl.LOCK_EX)
                for piece in self._store().pieces(file.name):
                    found.update(piece)
                    target.write(piece)
            if found.result() != (file.bytes, file.hash):
                raise ObjectStoreError(
                    f"archive: {file.name} came from the object store with other bytes than were"
                    f" archived; it has {file.rows} rows of topic {file.topic}",
                    hint="restore an older version of the object, if the bucket keeps versions",
                )
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, size: int, used: Collection[str]) -> None:
        """Delete what was used longest ago until `size` more bytes fit."""
        kept = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.suffix == PART and _is_left_over(path):
                    path.unlink()
                    continue
                stat = path.stat()
                kept.append((stat.st_mtime, stat.st_size, path))
        total = size + sum(bytes_ for _, bytes_, _ in kept)
        for _, bytes_, path in sorted(kept):
            if total <= self._limit_bytes:
                return
            if path.suffix != PART and path.name not in used:
                path.unlink(missing_ok=True)
                total -= bytes_


def _is_left_over(path: Path) -> bool:
    """A download whose process has ended."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
