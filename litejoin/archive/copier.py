"""The process that copies the archive's files into an object store.

Started by litejoin.archive.process as `python -m litejoin.archive.copier`, beside the worker: an
object store that hangs holds up no compaction, and obstore's memory is not DuckDB's.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from litejoin.archive.cloud import CloudSettings, ObjectStore
from litejoin.archive.copied_manifest import CopiedManifest
from litejoin.archive.copies import Copies
from litejoin.archive.frames import Header
from litejoin.archive.manifest import Manifest
from litejoin.archive.paths import ArchivePaths
from litejoin.archive.serving import serve_parent
from litejoin.store.layout import Layout


class Copier:
    """The methods that requests name. One thread."""

    def __init__(self) -> None:
        self._closing = ExitStack()

    def open(self, data_dir: str, epoch: str, cloud: Mapping[str, object]) -> Header:
        """Connect to the object store; reads and writes nothing yet."""
        self._paths = ArchivePaths(Layout(Path(data_dir)).archive)
        self._store = ObjectStore(CloudSettings(**cloud))  # type: ignore[arg-type]
        self._copied_manifest = CopiedManifest(self._paths, epoch, self._store)
        return {}

    def restore(self) -> Header:
        """Begin with the copy of the manifest where there is none here."""
        return {"restored": self._copied_manifest.restore()}

    def join(self) -> Header:
        """Join the archive that the worker has opened."""
        self._manifest = Manifest.join(self._paths.manifest)
        self._closing.callback(self._manifest.close)
        self._copies = Copies(self._paths, self._manifest, self._store)
        return {}

    def waiting(self) -> Header:
        """The files that have no copy yet."""
        return {"files": [file.id for file in self._copies.waiting()]}

    def copy(self, file: int) -> Header:
        """Copy one file."""
        copied = self._copies.copy(file)
        return {"bytes": copied.bytes, "problem": copied.problem}

    def delete_dropped(self, now_ms: int) -> Header:
        """Delete objects that nothing needs. The manifest's copy comes first: what it names is
        there whenever a new disk has to begin with it.
        """
        self._copied_manifest.update(self._manifest)
        return {"deleted": self._copies.delete_dropped(now_ms)}

    def close(self) -> None:
        """Let go of everything."""
        self._closing.close()


if __name__ == "__main__":
    serve_parent(Copier())
