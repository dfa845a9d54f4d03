"""Files made durable before anything relies on them: synced, renamed, directory synced.

Only for Parquet files, which SQLite never opens: closing them drops no lock.
"""

import os
from contextlib import suppress
from pathlib import Path

from litejoin._ext.checksum import xxh64
from litejoin.archive import steps
from litejoin.store.files import make_directory, sync_directory

BLOCK_BYTES = 4 * 1024 * 1024


def sync_file(path: Path) -> None:
    """Make the contents of a closed file durable and its owner's alone: DuckDB does neither."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        os.fsync(fd)
    finally:
        os.close(fd)


class FileHash:
    """Size and hash of a file, fed in pieces of any size: XXH64 of each block, seeded with the hash
    before it.
    """

    def __init__(self) -> None:
        self.size, self._value, self._rest = 0, 0, bytearray()

    def update(self, piece: bytes | memoryview) -> None:
        """The next bytes of the file."""
        self.size += len(piece)
        self._rest += piece
        while len(self._rest) >= BLOCK_BYTES:
            self._value = xxh64(bytes(self._rest[:BLOCK_BYTES]), self._value)
            del self._rest[:BLOCK_BYTES]

    def result(self) -> tuple[int, int]:
        """Size and hash, signed as SQLite keeps it."""
        value = xxh64(bytes(self._rest), self._value) if self._rest else self._value
        return self.size, value - (1 << 64) if value >> 63 else value


def hash_file(path: Path) -> tuple[int, int]:
    """Size and hash of a file."""
    found = FileHash()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            found.update(block)
    return found.result()


def move_into_place(temporary: Path, target: Path) -> None:
    """Rename a synced file and make its new name durable."""
    folders = [folder for folder in (target.parent.parent, target.parent) if not folder.exists()]
    for folder in folders:
        make_directory(folder)
        sync_directory(folder.parent)
    steps.reached("rename")
    temporary.rename(target)
    steps.reached("renamed")
    sync_directory(target.parent)
    steps.reached("synced")


def remove(path: Path) -> None:
    """Delete a file, and its folder if that is empty now. Does nothing when it is gone."""
    steps.reached("unlink")
    path.unlink(missing_ok=True)
    steps.reached("unlinked")
    with suppress(OSError):
        path.parent.rmdir()
