"""How far the replicas are behind the files.

A file's write-ahead log says when it was last written. Whether that is at the replica Litestream
alone can say, and only when it is asked to bring it there: the time of the last sync in its list
also rises when a sync has failed. Where no socket answers (a Litestream with a configuration of its
own), its local copies show at least that the log is being read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from litejoin.store.layout import wal_of

COARSE_S = 0.1
"""A file's time may be so much older than the write."""


@dataclass
class Watch:
    """The files of one directory. One thread at a time."""

    files: Mapping[str, Path]
    _copied: dict[str, float] = field(default_factory=dict)
    """Unix time up to which everything of a file is copied."""
    _waiting: dict[str, float] = field(default_factory=dict)
    """Since when, in monotonic seconds, a file has had something that is not known to be copied."""

    def uncopied(self, now_s: float) -> list[str]:
        """Files that were written since they were last known to be copied. A few stats."""
        found = []
        for name, path in self.files.items():
            written = _mtime(wal_of(path))
            if written is None or written + COARSE_S < self._copied.get(name, 0.0):
                self._waiting.pop(name, None)
            else:
                self._waiting.setdefault(name, now_s)
                found.append(name)
        return found

    def copied(self, name: str, at: float) -> None:
        """Everything written before the Unix time `at` is at the replica."""
        self._copied[name] = at
        self._waiting.pop(name, None)

    def look_at_copies(self, names: Iterable[str]) -> None:
        """What Litestream has taken of the files into its own directory counts as copied."""
        for name in names:
            path = self.files[name]
            newest, written = _newest_copy(path), _mtime(wal_of(path))
            if written is not None and newest >= written:
                self.copied(name, newest)

    def behind(self, now_s: float) -> dict[str, float]:
        """For how many seconds files have been behind; without those that are not."""
        return {name: now_s - since for name, since in self._waiting.items()}


def _mtime(path: Path) -> float | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime if found.st_size else None


def _newest_copy(path: Path) -> float:
    folder = path.with_name(f".{path.name}-litestream") / "ltx" / "0"
    try:
        return max((each.stat().st_mtime for each in folder.iterdir()), default=0.0)
    except OSError:
        return 0.0
