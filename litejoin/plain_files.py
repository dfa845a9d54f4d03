"""Keeps from waiting at files that a user names: a pipe there, or a device, may never say a word.

To open a pipe that nobody writes to blocks, and no signal of ours ends that. Used before a file
that the config names is opened, here or by a library.
"""

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_plain(*paths: str | Path | None) -> None:
    """Raises OSError for a path to something else than a file or a directory. One that is not there
    passes: who opens it says so.
    """
    for path in paths:
        if path is not None and Path(path).exists():
            _check(Path(path).stat(), path)


def read_plain(path: str | Path, most: int) -> bytes:
    """The first `most` bytes of a file. Raises OSError and ValueError; never waits."""
    _check(Path(path).stat(), path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        _check(os.fstat(fd), path)  # it may have become a pipe meanwhile
        return file.read(most)


def _check(status: os.stat_result, path: str | Path) -> None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
