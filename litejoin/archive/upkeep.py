"""Upkeep of the archive between compactions: merges, local retention, and what crashes left behind.

Called by the archive's worker. A file is deleted only after the manifest no longer needs it there,
and not before readers that began earlier had time to end.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import attrgetter, xor
from pathlib import Path

from litejoin.archive.duck import Duck
from litejoin.archive.files import remove
from litejoin.archive.manifest import ArchiveFile, FileState, Manifest
from litejoin.archive.paths import ArchivePaths, number_of
from litejoin.archive.seal import Sealer
from litejoin.errors import StartRefusedError, StorageError

GRACE_MS = 60_000
"""A reader that began before a file was dropped may open it for so long; later it begins again."""

MERGE_FILES = 8
"""So many small files of a topic and day become one: each row is written again for each factor 8
between a small file and a whole one."""

QUIET_MS = 3_600_000
"""A day that got no file for so long is taken as complete: its small files become one."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The archive in figures."""

    files: int
    rows: int
    local_bytes: int
    uploaded_bytes: int
    waiting_files: int
    """Recorded, while SQLite still has rows of theirs."""
    uncopied_bytes: int
    """Local files without a copy in an object store."""


class Upkeep:
    """Looks after the files of one archive. One thread; every method blocks."""

    def __init__(
        self,
        paths: ArchivePaths,
        manifest: Manifest,
        duck: Duck,
        *,
        compression: str,
        target_bytes: int,
        local_retention_ms: int,
        keeps_copies: bool,
    ) -> None:
        """`keeps_copies`: files are uploaded, and leave this machine only after that."""
        self._paths, self._manifest, self._duck = paths, manifest, duck
        self._sealer = Sealer(paths, manifest, duck)
        self._compression, self._target_bytes = compression, target_bytes
        self._local_retention_ms, self._keeps_copies = local_retention_ms, keeps_copies

    def sweep(self) -> list[str]:
        """At start: delete what a crash left half done. Returns the names of files that are part of
        the archive and are gone; not those that the object store still has.

        Raises StartRefusedError for a file that this manifest is too old to know.
        """
        for path in self._paths.temporary.iterdir():
            path.unlink()
        known = {f.name: f for f in self._manifest.files(*FileState)}
        for path in self._left_over(known):
            remove(path)
        gone = [
            file
            for file in known.values()
            if file.is_local
            and file.state is not FileState.DROPPED
            and not self._paths.file(file.name).exists()
        ]
        for file in gone:
            if file.is_uploaded:
                self._manifest.set_removed(file.id, local=True)
        return [file.name for file in gone if not file.is_uploaded]

    def _left_over(self, known: Mapping[str, ArchiveFile]) -> list[Path]:
        """Files that are not part of the archive, and that it made."""
        found = []
        for path in self._paths.present():
            name = str(path.relative_to(self._paths.root))
            number = number_of(path, self._manifest.epoch)
            if number is None or (name in known and known[name].is_local):
                continue
            if name not in known and not self._manifest.gave_out(number):
                raise StartRefusedError(
                    f"archive/{name} is newer than archive/manifest.db, which does not know it",
                    hint="put the newer manifest.db back, or move the file away to do without it",
                )
            # Renamed and not recorded: its rows are in SQLite, or in the files it was to replace.
            found.append(path)
        return found

    def merge(self, now_ms: int) -> int:
        """Make small files of a topic and day one, until none is left to merge. Returns how many
        files went into others.
        """
        days: dict[tuple[int, int], list[ArchiveFile]] = defaultdict(list)
        for file in self._manifest.files(FileState.SETTLED):
            if file.is_local and file.bytes < self._target_bytes // 2:
                days[file.topic, file.day].append(file)
        merged = 0
        for files in days.values():
            group = self._group(files, now_ms)
            if group:
                self._merge(group, now_ms)
                merged += len(group)
        return merged

    def _group(self, files: Sequence[ArchiveFile], now_ms: int) -> list[ArchiveFile]:
        """The smallest files of a day that are worth a merge now; none otherwise."""
        is_quiet = all(now_ms - file.created_ms >= QUIET_MS for file in files)
        group: list[ArchiveFile] = []
        size = 0
        for file in sorted(files, key=attrgetter("bytes")):
            # A file that outweighs all smaller ones together waits until there are more of them.
            if not is_quiet and len(group) >= MERGE_FILES and file.bytes > size:
                break
            if group and size + file.bytes > self._target_bytes:
                break
            group.append(file)
            size += file.bytes
        enough = 2 if is_quiet or size >= self._target_bytes // 2 else MERGE_FILES
        return group if len(group) >= enough else []

    def _merge(self, group: Sequence[ArchiveFile], now_ms: int) -> None:
        rows, checksum = sum(f.rows for f in group), reduce(xor, (f.checksum for f in group))
        number, path = self._sealer.begin()
        try:
            self._duck.merge([self._paths.file(f.name) for f in group], path, self._compression)
        except StorageError:
            path.unlink(missing_ok=True)
            raise
        # As old as its oldest rows in the archive: merging keeps nothing for longer.
        created_ms = min(f.created_ms for f in group)
        file = self._sealer.seal(number, group[0].topic, group[0].day, rows, checksum, created_ms)
        settled = replace(file, state=FileState.SETTLED)
        self._manifest.record([settled], [f.id for f in group], now_ms)

    def enforce_retention(self, now_ms: int) -> int:
        """Local files older than they are kept: gone from here when there is a verified copy, gone
        from the archive when none is kept. Returns how many.
        """
        old = [
            file
            for file in self._manifest.files(FileState.SETTLED)
            if file.is_local and file.created_ms <= now_ms - self._local_retention_ms
        ]
        if not self._keeps_copies:
            self._manifest.drop([file.id for file in old], now_ms)
            return len(old)
        uploaded = [file for file in old if file.is_uploaded]
        for file in uploaded:
            self._manifest.set_removed(file.id, local=True)
            remove(self._paths.file(file.name))
        return len(uploaded)

    def remove_dropped(self, now_ms: int) -> int:
        """Delete local copies of dropped files. Returns how many."""
        gone = 0
        for file in self._manifest.files(FileState.DROPPED):
            if not file.is_local or now_ms - file.dropped_ms < GRACE_MS:
                continue
            remove(self._paths.file(file.name))
            self._manifest.set_removed(file.id, local=True)
            gone += 1
        return gone

    def sizes(self) -> Sizes:
        """Of everything that queries read."""
        files = self._manifest.files()
        return Sizes(
            len(files),
            sum(file.rows for file in files),
            _bytes(file for file in files if file.is_local),
            _bytes(file for file in files if file.is_uploaded),
            sum(file.state is FileState.RECORDED for file in files),
            _bytes(file for file in files if file.is_local and not file.is_uploaded),
        )


def _bytes(files: Iterable[ArchiveFile]) -> int:
    return sum(file.bytes for file in files)
