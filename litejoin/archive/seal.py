"""From a written file to one that can be relied on: synced, re-read, renamed, synced again.

Shared by compaction and merging, so that no file gets into the manifest in another way.
"""

from pathlib import Path

from litejoin.archive import steps
from litejoin.archive.duck import Duck
from litejoin.archive.files import hash_file, move_into_place, sync_file
from litejoin.archive.manifest import ArchiveFile, Manifest
from litejoin.archive.paths import ArchivePaths, file_name
from litejoin.errors import StorageError
from litejoin.store.failures import file_error


class Sealer:
    """Gives out temporary names and seals what was written there."""

    def __init__(self, paths: ArchivePaths, manifest: Manifest, duck: Duck) -> None:
        self._paths, self._manifest, self._duck = paths, manifest, duck

    def begin(self) -> tuple[int, Path]:
        """The number of a new file, and where to write it."""
        number = self._manifest.next_number()
        steps.reached("write")
        return number, self._paths.temporary / f"{number}.parquet"

    def seal(
        self, number: int, topic: int, day: int, rows: int, checksum: int, now_ms: int
    ) -> ArchiveFile:
        """The file, at its final name and durable, once it was found to hold these rows.

        Raises StorageError when it does not, StorageFullError and StorageIOError; what was written
        is deleted then.
        """
        temporary = self._paths.temporary / f"{number}.parquet"
        steps.reached("written")
        try:
            sync_file(temporary)
            steps.reached("fsynced")
            figures = self._duck.figures(temporary)
            if (figures.rows, figures.checksum) != (rows, checksum):
                raise StorageError(
                    f"archive: {temporary} was written with {rows} rows and re-read with"
                    f" {figures.rows}, or others; it is written again",
                    hint="check the disk (dmesg)",
                )
            size, digest = hash_file(temporary)
            name = file_name(topic, day, self._manifest.epoch, number)
            move_into_place(temporary, self._paths.file(name))
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise file_error(error, f"archive: {temporary}") from error
        except StorageError:
            temporary.unlink(missing_ok=True)
            raise
        return ArchiveFile(
            number, topic, day, name, rows, size, digest, checksum,
            figures.min_key, figures.max_key, figures.min_ms, figures.max_ms,
            figures.min_seq, figures.max_seq, now_ms,
        )  # fmt: skip
