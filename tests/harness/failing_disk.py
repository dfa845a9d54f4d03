"""A disk that fails when a test says so, under a whole pipeline process.

A small C library is compiled once, preloaded into the process, and told through a mapped file what
fails from now on. Only calls of the process itself fail; the disk is as before.
"""

import struct
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
    FULL_ON_SYNC = 4
    KILL_AT_SYNC = 5


class FailingDisk:
    """`env` goes to the process; `files` is a part of the paths that are meant."""

    def __init__(self, folder: Path, files: str) -> None:
        library = folder / "failing_disk.so"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        self._control = folder / "fault"
        self._control.write_bytes(struct.pack("=ii", Fault.NONE, 0))
        self.env = {
            "LD_PRELOAD": str(library),
            "LJ_FAULT_CONTROL": str(self._control),
            "LJ_FAULT_FILES": files,
        }

    def set(self, fault: Fault, syncs: int = 0) -> None:
        """From now on. `syncs`, of KILL_AT_SYNC: before which of them the process is killed, from
        1.
        """
        with self._control.open("r+b", buffering=0) as control:
            control.write(struct.pack("=ii", Fault.NONE, syncs))
            control.seek(0)
            control.write(struct.pack("=i", fault))

    def syncs_left(self) -> int:
        """Of KILL_AT_SYNC: syncs to come until the fatal one."""
        left: int = struct.unpack("=ii", self._control.read_bytes())[1]
        return left
