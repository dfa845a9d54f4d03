"""Commit high-water marks: which flush each shard has committed, kept outside the shards.

SQLite cannot tell a WAL whose tail is damaged from a shorter one: everything after the damage is
gone without a word. The marks can: a shard whose newest batch record is older than its mark lost
commits.

File `marks`, little endian; a reader takes the valid area with the higher generation, a writer
overwrites the other one, so that a torn write costs one flush's marks:

    offset           size  field
    0                8     "LJMARKS1"
    8                4     shard_count
    12               4     1 when the commits were synced (synchronous: full)
    16               16    boot id of the machine when it was last opened
    512              ..    area 0
    512 + k * 512    ..    area 1, where k * 512 is the area's size rounded up
    area: u64 generation, u64 seq of each shard, u64 XXH64 of the area before it

Written after each commit by the flush thread, so never ahead of what the shard has; with
synchronous full it is also synced, by the checkpoint thread at most some 10 ms later: an ack does
not wait for it, and a power loss in that moment only leaves a mark that is some flushes behind.
"""

import os
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

from litejoin._ext.checksum import xxh64
from litejoin.errors import StartRefusedError
from litejoin.store.failures import file_error
from litejoin.store.files import replace_file

MAGIC = b"LJMARKS1"
HEAD = struct.Struct("<8sII16s")
SECTOR_BYTES = 512
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class SavedMarks:
    """What the file said at start."""

    seqs: tuple[int, ...]
    synced: bool
    same_boot: bool
    """No power loss can explain a lost tail when the machine has not been started since."""


class Marks:
    """The open file. One thread records; another may sync."""

    def __init__(self, fd: int, seqs: list[int]) -> None:
        self._fd = fd
        self._seqs = seqs
        self._generation = 1
        self._body = struct.Struct(f"<Q{len(seqs)}Q")
        self._stride = _stride(len(seqs))

    @classmethod
    def create(cls, path: Path, seqs: list[int], *, synced: bool) -> "Marks":
        """Replace the file by one with these marks and open it."""
        head = HEAD.pack(MAGIC, len(seqs), synced, boot_id())
        area = _area(struct.Struct(f"<Q{len(seqs)}Q"), 1, seqs)
        data = head.ljust(SECTOR_BYTES, b"\0") + bytes(_stride(len(seqs)))
        # Generation 1 is in area 1; area 0 is empty and not valid until the first record.
        replace_file(path, data + area.ljust(_stride(len(seqs)), b"\0"))
        return cls(os.open(path, os.O_WRONLY | os.O_CLOEXEC), list(seqs))

    def record(self, shards: tuple[int, ...], seq: int) -> None:
        """Note that these shards have committed flush `seq`.

        Raises StorageIOError; the file does not grow, so a full disk is no error here.
        """
        for shard in shards:
            self._seqs[shard] = seq
        self._generation += 1
        area = _area(self._body, self._generation, self._seqs)
        try:
            os.pwrite(self._fd, area, SECTOR_BYTES + self._generation % 2 * self._stride)
        except OSError as error:
            raise file_error(error, "marks") from error

    def sync(self) -> None:
        """Make what was recorded durable. Blocks; raises StorageIOError."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise file_error(error, "marks") from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_marks(path: Path, shard_count: int) -> SavedMarks | None:
    """What the file says; None when there is none. Raises StartRefusedError when it is damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    stride = _stride(shard_count)
    areas = [data[SECTOR_BYTES + k * stride :][:stride] for k in (0, 1)]
    valid = [seqs for area in areas if (seqs := _parse(area, shard_count))]
    head = HEAD.unpack_from(data) if len(data) >= HEAD.size else (b"", 0, 0, b"")
    if head[0] != MAGIC or head[1] != shard_count or not valid:
        raise StartRefusedError(
            f"{path} is damaged, so lost commits could not be noticed",
            hint="check the disk; delete the file to go on without this check",
        )
    return SavedMarks(max(valid)[1:], head[2] == 1, head[3] == boot_id())


def lost_tails(saved: SavedMarks, found: list[int]) -> dict[int, str]:
    """Shards whose newest batch record is older than their mark, and what that means."""
    return {
        shard: f"lost commits: flush {mark} was committed, its newest is {newest}"
        f" ({mark - newest} batches at most are lost)"
        for shard, (mark, newest) in enumerate(zip(saved.seqs, found, strict=True))
        if newest < mark
    }


def boot_id() -> bytes:
    """16 bytes that differ after each start of the machine; random where the system tells none."""
    try:
        return uuid.UUID(BOOT_ID.read_text().strip()).bytes
    except (OSError, ValueError):
        return uuid.uuid4().bytes


def _stride(shard_count: int) -> int:
    return -(-(16 + 8 * shard_count) // SECTOR_BYTES) * SECTOR_BYTES


def _area(body: struct.Struct, generation: int, seqs: list[int]) -> bytes:
    packed = body.pack(generation, *seqs)
    return packed + xxh64(packed).to_bytes(8, "little")


def _parse(area: bytes, shard_count: int) -> tuple[int, ...] | None:
    size = 8 + 8 * shard_count
    if len(area) < size + 8 or xxh64(area[:size]) != int.from_bytes(
        area[size : size + 8], "little"
    ):
        return None
    return struct.unpack_from(f"<Q{shard_count}Q", area)
