"""The lock of a data directory: one process at a time, taken before anything else is looked at.

An flock on the file `lock`: the kernel releases it with the process, however that ends, so there is
no stale lock to clean. The descriptor is close-on-exec; a forked child that does not exec would
keep the lock alive, which is why nothing in LiteJoin forks. The file's text names the holder for
people.
"""

import fcntl
import json
import os
from pathlib import Path

from litejoin.errors import DataDirInUseError, StartRefusedError


class DirectoryLock:
    """Holds the lock from `acquire` until `release`. Never blocks."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path, pipeline: str) -> "DirectoryLock":
        """Take the lock or raise DataDirInUseError naming the holder. The directory must exist."""
        try:
            # Not through a link: the file it leads to would be emptied.
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StartRefusedError(
                f"data_dir {path.parent}: cannot open its lock: {error.strerror}",
                hint="check storage.data_dir and its owner",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            in_use = _in_use(path, fd)
            os.close(fd)
            raise in_use from error
        text = json.dumps({"pid": os.getpid(), "pipeline": pipeline})
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode() + b"\n", 0)
        return cls(fd)

    def release(self) -> None:
        """Let go; the file stays, since deleting it would let two processes lock two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def refuse_if_held(path: Path) -> None:
    """Raise DataDirInUseError when another process holds the lock; create and keep nothing.

    For `run`, before it loads what a pipeline needs: a second instance is told at once. Only
    `acquire` decides.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return  # no lock, or none that can be read: `acquire` will say
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        raise _in_use(path, fd) from error
    finally:
        os.close(fd)


def _in_use(path: Path, fd: int) -> DataDirInUseError:
    return DataDirInUseError(
        f"data_dir {path.parent} is in use by {_holder(fd)}",
        hint="stop that process, or give this pipeline a storage.data_dir of its own",
    )


def _holder(fd: int) -> str:
    # The holder may be between taking the lock and writing its name.
    try:
        found = json.loads(os.pread(fd, 4096, 0))
        return f"process {int(found['pid'])} (pipeline {found['pipeline']!s:.128})"
    except (ValueError, KeyError, TypeError):
        return "another process"
