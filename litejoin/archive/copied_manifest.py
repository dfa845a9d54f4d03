"""The manifest's copy in the object store: without it nobody knows which objects count.

Made by the process that copies, after each round that changed something. A data directory that has
lost its archive (a new disk, restored from a replica) begins with the copy.
"""

from litejoin.archive.cloud import ObjectStore
from litejoin.archive.files import hash_file, sync_file
from litejoin.archive.manifest import Manifest
from litejoin.archive.paths import ArchivePaths, manifest_name
from litejoin.errors import ObjectStoreError
from litejoin.store.files import make_directory, sync_directory


class CopiedManifest:
    """The copy of one archive's manifest. One thread; every method blocks."""

    def __init__(self, paths: ArchivePaths, epoch: str, store: ObjectStore) -> None:
        self._paths, self._store = paths, store
        self._name = manifest_name(epoch)
        self._last: tuple[int, int] | None = None

    def restore(self) -> bool:
        """Where there is no manifest, take the copy, if there is one. True when it was taken.

        Raises ObjectStoreError: without an answer nobody knows whether there is one.
        """
        if self._paths.manifest.exists():
            return False
        temporary = self._paths.root / "manifest.part"
        make_directory(self._paths.root)
        temporary.unlink(missing_ok=True)
        if not self._store.get(self._name, temporary):
            return False
        manifest = Manifest.join(temporary)
        manifest.skip_numbers()
        manifest.close()
        temporary.chmod(0o600)
        sync_file(temporary)
        temporary.rename(self._paths.manifest)
        sync_directory(self._paths.root)
        return True

    def update(self, manifest: Manifest) -> bool:
        """Copy the manifest, if it has changed since. Raises ObjectStoreError."""
        temporary = self._paths.root / "manifest.copy"
        temporary.unlink(missing_ok=True)
        manifest.write_copy(temporary)
        try:
            found = hash_file(temporary)
            if found == self._last:
                return False
            self._store.put(self._name, temporary)
            if self._store.hash(self._name) != found:
                raise ObjectStoreError(
                    f"archive: {self._name} was read back with other bytes than were sent"
                )
            self._last = found
        finally:
            temporary.unlink()
        return True
