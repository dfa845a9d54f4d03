"""Every kind of small disk is full when a test says so, and has room again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.process import clean_environment
from tests.harness.small_disk import Kind, SmallDisk, allowed, small_disk

WRITE = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
try:
    os.pwrite(fd, b'x' * 5000, 0)
except OSError as error:
    sys.exit(error.errno)
"""


def write(disk: SmallDisk, name: str) -> int:
    command = disk.command(
        [sys.executable, "-c", WRITE, str(disk.path / name)], work_dir=disk.path.parent
    )
    return subprocess.run(command, env=clean_environment(disk.env)).returncode


@pytest.mark.parametrize("kind", allowed())
def test_a_disk_is_full_and_then_has_room(tmp_path: Path, kind: Kind) -> None:
    with small_disk(tmp_path, kind) as disk:
        assert write(disk, "a") == 0
        disk.fill()
        assert write(disk, "b") == 28
        disk.free()
        assert write(disk, "b") == 0
