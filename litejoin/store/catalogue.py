"""catalogue.db: the manifest once more, in a file that Litestream can replicate.

Kept beside manifest.json where the files are replicated, and never read while that is there. Small,
so that a replica can be asked quickly whose it is. Its write-ahead log is Litestream's (see
checkpoint).

    catalogue(name TEXT PRIMARY KEY, value)     'manifest': the text of manifest.json
"""

import threading
from pathlib import Path

import apsw

from litejoin.errors import StartRefusedError
from litejoin.store.failures import storage_error
from litejoin.store.files import create_private
from litejoin.store.layout import Layout
from litejoin.store.manifest import Manifest, manifest_of
from litejoin.store.sqlite import open_database, open_readonly

SCHEMA = "CREATE TABLE IF NOT EXISTS catalogue(name TEXT PRIMARY KEY, value) WITHOUT ROWID"


class Catalogue:
    """The open file. Any thread; blocks on the disk."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, manifest: Manifest) -> "Catalogue":
        """Open or create the file and bring it up to date. Raises StartRefusedError."""
        try:
            if not path.exists():
                create_private(path)
            connection = open_database(path, create=False)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(SCHEMA)
        except (apsw.Error, OSError) as error:
            raise StartRefusedError(
                f"{path} cannot be used: {error}",
                hint="it is a copy of manifest.json: move it away, and a new one is made",
            ) from error
        self = cls(connection)
        self.keep(manifest)
        return self

    def keep(self, manifest: Manifest) -> None:
        """Store the manifest, if it differs. Raises StorageError and its kin."""
        text = manifest.text()
        with self._lock:
            try:
                execute = self._connection.execute
                if execute("SELECT value FROM catalogue WHERE name = 'manifest'").get != text:
                    execute("INSERT OR REPLACE INTO catalogue VALUES('manifest', ?)", (text,))
            except apsw.Error as error:
                raise storage_error(error, -1) from error

    def close(self) -> None:
        """Close, and leave the write-ahead log."""
        self._connection.close()


def read_catalogue(path: Path, layout: Layout) -> Manifest:
    """The manifest of the directory `layout` in a catalogue. Raises StartRefusedError."""
    try:
        connection = open_readonly(path)
        try:
            text = connection.execute("SELECT value FROM catalogue WHERE name = 'manifest'").get
        finally:
            connection.close()
    except apsw.Error as error:
        raise StartRefusedError(f"{path} cannot be read: {error}") from error
    return manifest_of(layout, str(text))
