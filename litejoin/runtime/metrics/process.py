"""What this process, its program and its files are: figures that belong to no part of the pipeline.

Read from /proc and from directory entries; data files are never opened (see store.sqlite).
"""

import os
import resource
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import apsw

from litejoin import __version__
from litejoin.store.layout import wal_of

PROC = Path("/proc/self")


class ProcessFigures:
    """Memory, CPU, files of this process; what the system does not tell is left out."""

    def __init__(self) -> None:
        self._started_s = _started_s()

    def __call__(self) -> dict[str, float]:
        """The figures of now."""
        out = {
            "cpu_s": time.process_time(),
            "max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            "threads": float(threading.active_count()),
        }
        try:
            pages = (PROC / "statm").read_text().split()
            out["open_fds"] = float(sum(1 for _ in (PROC / "fd").iterdir()))
        except OSError:
            return out
        page = os.sysconf("SC_PAGE_SIZE")
        out["virtual_bytes"], out["resident_bytes"] = int(pages[0]) * page, int(pages[1]) * page
        if self._started_s is not None:
            out["started_s"] = self._started_s
        return out


def _started_s() -> float | None:
    """Unix seconds; the kernel counts the start in ticks since the boot."""
    try:
        # The name of the program stands in parentheses and may hold spaces.
        ticks = int((PROC / "stat").read_text().rpartition(")")[2].split()[19])
        boot = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime ")
        )
    except (OSError, StopIteration):
        return None
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def build_figures() -> dict[str, object]:
    """{version: {python: {sqlite: 1}}}: three labels of a metric that is always 1."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {__version__: {python: {apsw.sqlite_lib_version(): 1}}}


def file_figures(paths: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Sizes by file name; one that is not there is left out."""
    return {
        path.name: {"bytes": size, "wal_bytes": _size(wal_of(path)) or 0}
        for path in paths
        if (size := _size(path)) is not None
    }


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
