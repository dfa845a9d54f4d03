"""Appends each result to a file as one line of JSON, and starts a new file when it is full.

With at_least_once a batch is on disk (fsync) before it counts as delivered. The last line says how
far the file is: its `seq`, and whether its `id` is of this pipeline's history. Results up to there
are left out when they come again after a crash, and half a line that a crash left is cut off, so
the lines are the results of the log, each once. A file that was moved away (logrotate) is noticed
before the next batch.

    path      lines written now
    path.1    full file before it, path.2 the one before that, up to `keep`
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from litejoin.plan.nodes import FileSinkPlan, Plan
from litejoin.records import Result, result_id
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.paths import check_own_file
from litejoin.sinks.workers import Workers

TAIL_BYTES = 64 * 1024
"""First look back for the last line; doubled until a whole line is seen."""


class _LastLine(msgspec.Struct):
    """What tells where a file ends."""

    query: str
    key: msgspec.Raw
    seq: int
    id: str


_decode_line = msgspec.json.Decoder(_LastLine).decode


class FileSink:
    """A file of JSON lines."""

    max_in_flight = 1
    max_batch = 1_000

    def __init__(self, plan: FileSinkPlan, pipeline: Plan) -> None:
        self.name = plan.name
        self._plan = plan
        self._pipeline = pipeline
        self._file = _Lines(plan)
        self._workers: Workers[None, Sequence[Result], Outcome] | None = None

    async def open(self) -> None:
        """Raises SinkError for a path that is not ours to write."""
        check_own_file(self.name, self._plan.path, self._pipeline)
        self._workers = Workers(
            f"lj-sink-{self.name}", 1, lambda: None, lambda _, results: self._file.append(results)
        )

    def position(self, epoch: str) -> int | None:
        """None: a file that was moved away must not bring everything back."""
        return None

    def expect(self, late: Collection[str]) -> None:
        """What there is of other joins says nothing of these."""
        self._file.late = frozenset(late)

    async def deliver(self, result: Result) -> Outcome:
        """Append one result."""
        return (await self.deliver_batch([result]))[0]

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        """Append results; all or none count as delivered."""
        assert self._workers is not None
        return [await self._workers.submit(results)] * len(results)

    async def close(self) -> None:
        """Close the file after what is being written."""
        if self._workers is not None:
            await self._workers.submit(())
            self._workers.stop()
            self._file.close()


class _Lines:
    """The open file; used by the sink's thread."""

    def __init__(self, plan: FileSinkPlan) -> None:
        self._plan = plan
        self._fd = -1
        self._identity: tuple[int, int] | None = None
        self._size = 0
        """Bytes that end in a whole line and count; what is behind them is cut off."""
        self.late: frozenset[str] = frozenset()
        """Joins that catch up: their results are in up to another position than those of others."""
        self._pipeline: str | None = None
        """Of the history that `_ends` counts."""
        self._ends = {False: 0, True: 0}
        """Position of the last line of the other joins, and of the late ones."""

    def append(self, results: Sequence[Result]) -> Outcome:
        """Blocking; never raises."""
        if not results:
            return DELIVERED
        try:
            self._follow(results[0].pipeline)
            lines = [_line(result) for result in results if not self._has(result)]
            if lines:
                self._write(b"".join(lines))
                self._note(results)
        except OSError as error:
            self.close()
            return Outcome("retry", f"{self._plan.path}: {error.strerror or error}")
        return DELIVERED

    def close(self) -> None:
        """Let the file go; the next append opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _has(self, result: Result) -> bool:
        is_known = self._pipeline == result.pipeline
        return is_known and result.pos <= self._ends[result.query in self.late]

    def _note(self, results: Sequence[Result]) -> None:
        for result in results:
            if result.pipeline != self._pipeline:
                self._pipeline, self._ends = result.pipeline, {False: 0, True: 0}
            self._ends[result.query in self.late] = result.pos

    def _write(self, lines: bytes) -> None:
        if self._size and self._plan.max_bytes and self._size + len(lines) > self._plan.max_bytes:
            self._rotate()
        before = os.fstat(self._fd).st_size
        try:
            self._append(lines)
        except OSError:
            # Whole lines among what was written would be there twice: all of them come again.
            os.ftruncate(self._fd, before)
            raise
        self._size += len(lines)

    def _append(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        if self._plan.guarantee == "at_least_once":
            os.fsync(self._fd)

    def _follow(self, pipeline: str) -> None:
        """Open the file, or the new one when somebody has moved it away."""
        path = self._plan.path
        try:
            status = path.stat()
            found = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            found = None
        if self._fd >= 0 and found == self._identity:
            return
        self.close()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        self._size = self._mend(status.st_size)
        if self._pipeline is None:
            last = self._last_of(self._fd, self._size) or self._last_rotated()
            if last is not None and _is_of(last, pipeline):
                self._pipeline = pipeline
                self._ends[last.query in self.late] = last.seq

    def _mend(self, size: int) -> int:
        """Cut off half a line; its result was not counted and comes again."""
        whole = _end_of_last_line(self._fd, size)
        if whole != size:
            os.ftruncate(self._fd, whole)
        return whole

    def _last_of(self, fd: int, size: int) -> _LastLine | None:
        try:
            return _decode_line(_last_line(fd, size))
        except msgspec.MsgspecError:
            return None

    def _last_rotated(self) -> _LastLine | None:
        """The last line was in the file before this one when a crash came between the two."""
        if self._size:
            return None
        try:
            fd = os.open(_numbered(self._plan.path, 1), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return self._last_of(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def _rotate(self) -> None:
        path, keep = self._plan.path, self._plan.keep
        self.close()
        if keep:
            for number in range(keep, 1, -1):
                if _numbered(path, number - 1).exists():
                    _numbered(path, number - 1).replace(_numbered(path, number))
            path.replace(_numbered(path, 1))
        else:
            path.unlink()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        self._size = 0
        _sync_folder(path.parent)


def _is_of(last: _LastLine, pipeline: str) -> bool:
    """Whether a line is of this history: its id is made of the pipeline and its epoch."""
    return last.id == result_id(pipeline, last.query, bytes(last.key).decode(), last.seq)


def _line(result: Result) -> bytes:
    return result.body().replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _end_of_last_line(fd: int, size: int) -> int:
    at = size
    while at:
        start = max(0, at - TAIL_BYTES)
        found = os.pread(fd, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _last_line(fd: int, size: int) -> bytes:
    """The last line of a file that ends in a line break; b"" when there is none."""
    if not size:
        return b""
    start = _end_of_last_line(fd, size - 1)
    return os.pread(fd, size - 1 - start, start)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
