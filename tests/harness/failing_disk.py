"""A disk that fails when a test says so, under a whole pipeline process.

A small C library is compiled once, preloaded into the process, and told through one byte of a
mapped file what fails from now on. Only calls of the process itself fail; the disk is as before.
"""

import subprocess
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class Fault(IntEnum):
    """What fails; the numbers are those of the C side."""

    NONE = 0
    EIO_ON_SYNC = 1
    EIO_ON_WRITE = 2
    FULL_ON_WRITE = 3


class FailingDisk:
    """`env` goes to the process; `files` is a part of the paths that are meant."""

    def __init__(self, folder: Path, files: str) -> None:
        library = folder / "failing_disk.so"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        self._control = folder / "fault"
        self._control.write_bytes(b"\0")
        self.env = {
            "LD_PRELOAD": str(library),
            "LJ_FAULT_CONTROL": str(self._control),
            "LJ_FAULT_FILES": files,
        }

    def set(self, fault: Fault) -> None:
        """From now on."""
        with self._control.open("r+b") as control:
            control.write(bytes([fault]))
