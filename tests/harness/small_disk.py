"""A disk of a few MB that a test fills and empties: a tmpfs, so that ENOSPC is the kernel's own.

Mounted where the tests run as root; else in a user namespace of its own, which processes enter with
`command`. Where a machine allows neither, writes fail in the process instead, by the library of
failing_disk, and the summary of the test run says so: the same assertions hold, of another cause.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Protocol

from tests.harness.failing_disk import FailingDisk, Fault

SIZE_MB = 24
STAND_IN = "NO REAL SMALL DISK: no tmpfs may be mounted here, so a library let writes fail instead"


class Kind(Enum):
    """How a small disk is made, the best one first."""

    MOUNT = "mount"
    NAMESPACE = "namespace"
    LIBRARY = "library"


class SmallDisk(Protocol):
    """`path` is where it is for processes that were started with `command` and `env`."""

    path: Path
    env: dict[str, str]
    is_real: bool

    def command(self, command: Sequence[str], work_dir: Path) -> list[str]:
        """`command` so that it sees the disk, in `work_dir`."""
        ...

    def fill(self) -> None:
        """Not a byte more has room."""
        ...

    def free(self) -> None:
        """Nearly all of it is free again."""
        ...


class _Tmpfs:
    """What both real kinds share; `seen` is the disk as this process reaches it."""

    is_real = True

    def __init__(self, path: Path, seen: Path, enter: Sequence[str] = ()) -> None:
        self.path, self._seen, self._enter = path, seen, enter
        self.env: dict[str, str] = {}

    def command(self, command: Sequence[str], work_dir: Path) -> list[str]:
        if not self._enter:
            return list(command)
        # Who enters a mount namespace is at its root.
        return [*self._enter, "sh", "-c", 'cd "$0" && exec "$@"', str(work_dir), *command]

    def fill(self) -> None:
        with (self._seen / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 20, 4096, 1):
                while _goes_in(ballast.fileno(), bytes(size)):
                    pass

    def free(self) -> None:
        (self._seen / "ballast").unlink()


def _goes_in(fd: int, data: bytes) -> bool:
    try:
        return os.write(fd, data) == len(data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


class _Library:
    """The stand-in: writes below `path` fail in processes that have `env`."""

    is_real = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._disk = FailingDisk(path.parent, f"{path}/")
        self.env = self._disk.env

    def command(self, command: Sequence[str], work_dir: Path) -> list[str]:
        return list(command)

    def fill(self) -> None:
        self._disk.set(Fault.FULL_ON_WRITE)

    def free(self) -> None:
        self._disk.set(Fault.NONE)


def _mount(path: Path) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(path)]


def allowed() -> list[Kind]:
    """What this machine lets us do."""
    unshare = shutil.which("unshare") and shutil.which("nsenter")
    probe = ["unshare", "-rm", *_mount(Path("/tmp"))]
    own = bool(unshare) and subprocess.run(probe, capture_output=True).returncode == 0
    root = os.geteuid() == 0 and own
    return [
        *([Kind.MOUNT] if root and _may_mount() else []),
        *([Kind.NAMESPACE] if own else []),
        Kind.LIBRARY,
    ]


def _may_mount() -> bool:
    """Asked in a mount namespace that is thrown away."""
    probe = ["unshare", "-m", *_mount(Path("/tmp"))]
    return subprocess.run(probe, capture_output=True).returncode == 0


@contextmanager
def small_disk(folder: Path, kind: Kind | None = None) -> Iterator[SmallDisk]:
    """One at `folder`/disk; of the best kind, unless one is named."""
    kind = kind or allowed()[0]
    path = folder / "disk"
    path.mkdir()
    if kind is Kind.MOUNT:
        subprocess.run(_mount(path), check=True)
        try:
            yield _Tmpfs(path, path)
        finally:
            # Lazy: a process that a failed test has left may still have a file there.
            subprocess.run(["umount", "-l", str(path)], check=True)
    elif kind is Kind.NAMESPACE:
        with _namespace(path) as holder:
            enter = ["nsenter", "-U", "-m", "--preserve-credentials", "-t", str(holder)]
            yield _Tmpfs(path, Path(f"/proc/{holder}/root{path}"), enter)
    else:
        print(STAND_IN)
        yield _Library(path)


@contextmanager
def _namespace(path: Path) -> Iterator[int]:
    """A process that holds a mount namespace with the disk; its id."""
    script = '"$@" && echo ready && exec cat'
    holder = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script, "sh", *_mount(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin and holder.stdout
    try:
        assert holder.stdout.readline() == b"ready\n"
        yield holder.pid
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()
