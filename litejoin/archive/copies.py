"""Copies of the archive's files in an object store: made, read back, and deleted with their file.

Called by the process that copies. The manifest is the plan of work: a file without a copy that was
read back is copied again from its beginning, whatever ended the attempt before. A local file is
never touched here; litejoin.archive.upkeep deletes it once its copy is verified and it is old.
"""

from dataclasses import dataclass

from litejoin.archive import steps
from litejoin.archive.cloud import ObjectStore
from litejoin.archive.files import hash_file
from litejoin.archive.manifest import ArchiveFile, FileState, Manifest
from litejoin.archive.paths import ArchivePaths
from litejoin.archive.upkeep import GRACE_MS
from litejoin.errors import ObjectStoreError


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of one file."""

    bytes: int = 0
    """0 when it is not needed any more."""
    problem: str = ""
    """Why this file cannot be copied, if it cannot."""


class Copies:
    """The copies of one archive. One thread; every method blocks."""

    def __init__(self, paths: ArchivePaths, manifest: Manifest, store: ObjectStore) -> None:
        self._paths, self._manifest, self._store = paths, manifest, store

    def waiting(self) -> list[ArchiveFile]:
        """Files that have no copy yet, oldest first."""
        return [file for file in self._manifest.files() if file.is_local and not file.is_uploaded]

    def copy(self, number: int) -> Copied:
        """Copy a file and read the copy back. Raises ObjectStoreError."""
        try:
            file = self._manifest.file(number)
            found = hash_file(self._paths.file(file.name))
        except KeyError:
            return Copied()
        except OSError as error:
            return self._problem(file, f"cannot be read: {error.strerror}")
        if found != (file.bytes, file.hash):
            return self._problem(file, "is not what was written; it is not copied")
        if not self._manifest.begin_upload(number):
            return Copied()
        steps.reached("put")
        self._store.put(file.name, self._paths.file(file.name))
        steps.reached("read back")
        if self._store.hash(file.name) != (file.bytes, file.hash):
            raise ObjectStoreError(
                f"archive: {file.name} was read back from the object store with other bytes than"
                " were sent; it is sent again",
                hint="see the logs of the object store, and what is between it and this machine",
            )
        self._manifest.set_uploaded(number)
        return Copied(file.bytes)

    def _problem(self, file: ArchiveFile, what: str) -> Copied:
        if self._manifest.is_dropped(file.id):
            return Copied()
        return Copied(problem=f"the file archive/{file.name} {what}")

    def delete_dropped(self, now_ms: int) -> int:
        """Delete the objects of files that are not part of the archive any more, once readers that
        began earlier had time to end. Returns how many. Raises ObjectStoreError.
        """
        gone = 0
        for file in self._manifest.files(FileState.DROPPED):
            if file.is_upload_begun and now_ms - file.dropped_ms >= GRACE_MS:
                steps.reached("delete object")
                self._store.delete(file.name)
                self._manifest.set_removed(file.id, local=False)
                gone += 1
        return gone
