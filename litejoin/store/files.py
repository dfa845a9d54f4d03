"""Durable small files: written under another name, synced, renamed, directory synced.

For the manifest and the marks; never for a SQLite file, whose locks a plain close() would drop.
"""

import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """Create the directory and its parents; what is created is private. An existing one is left as
    is.
    """
    if not path.exists():
        path.mkdir(mode=0o700, parents=True)


def sync_directory(path: Path) -> None:
    """Make renames and creations in the directory durable. Blocks on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in place of the file: after a crash the old or the new content, never a mix."""
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    sync_directory(path.parent)


def create_private(path: Path) -> None:
    """Create an empty file only its owner can read, before SQLite opens it for the first time."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
