"""What row checksums and the high-water mark take from the rate of durable flushes.

Called by bench.e2e.storage. Four stores of 8 shards on the disk at hand get the same row batches:
the product's, one without checksums, one without the mark, one without both. They take turns block
by block, so that whatever else the machine does meets them alike; a cost is the median over the
blocks, beside its standard error. Only the bench can leave them out.
"""

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from litejoin._ext.batch import BatchWriter
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.writer import ShardStore

SHARDS = 8
BATCH_ROWS = 1_000
"""Rows of a flush: what some hundred pushes that arrive together make."""

BLOCK = 4
"""Flushes of one store before the next has its turn."""

ROUNDS = 5
"""New stores each time: where the files of one lie on the disk is luck."""

Synchronous = Literal["normal", "full"]
Payload = Callable[[int], bytes]


class Bare:
    """A store that leaves out what is not asked for; `spent_s` is the time of each block."""

    def __init__(
        self, parent: Path, synchronous: Synchronous, *, checksums: bool, mark: bool
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=parent))
        self.spent_s: list[float] = []
        self.store = ShardStore.open(
            self._folder, pipeline="bench", shard_count=SHARDS, synchronous=synchronous
        )
        self.topic = self.store.create_topic("rows")
        if not checksums:
            assert self.store._writer
            self.store._writer.close()
            self.store._writer = BatchWriter(
                enumerate(self.store._connections), SHARDS,
                together=synchronous == "full", checksums=False,
            )  # fmt: skip
        if not mark:
            assert self.store._checkpointer
            self.store._record = lambda marks, committed: None  # type: ignore[method-assign]
            self.store._checkpointer._sync_marks = None

    def write(self, batches: list[bytes]) -> None:
        started = time.perf_counter()
        for batch in batches:
            flush = self.store.flush([batch])
            self.store.trim_batches(dict.fromkeys(range(SHARDS), flush.seq))
        self.spent_s.append(time.perf_counter() - started)

    def close(self) -> int:
        """The rows that are there."""
        count = f"SELECT count(*) FROM t{self.topic}"
        rows = sum(int(reader.execute(count).get) for reader in self.store.open_readers())
        self.store.close()
        shutil.rmtree(self._folder)
        return rows


KINDS = {
    "product": {"checksums": True, "mark": True},
    "without_checksums": {"checksums": False, "mark": True},
    "without_mark": {"checksums": True, "mark": False},
    "without_both": {"checksums": False, "mark": False},
}


def make_batches(keys: str, rows: int, payload: Payload) -> list[bytes]:
    """Ordered keys are all new; of random ones half were there before."""
    choose = random.Random(8)
    numbers = range(rows) if keys == "ordered" else [choose.randrange(rows) for _ in range(rows)]
    return [
        pack_rows(
            Row(1, RowKind.UPSERT, first, b"k%08d" % number, payload(number))
            for number in numbers[first : first + BATCH_ROWS]
        )
        for first in range(0, rows, BATCH_ROWS)
    ]


def compare(parent: Path, synchronous: Synchronous, batches: list[bytes]) -> dict[str, list[float]]:
    """The seconds of each block, by kind of store."""
    made = {name: Bare(parent, synchronous, **kind) for name, kind in KINDS.items()}
    names, shuffle = list(made), random.Random(8).shuffle
    for first in range(0, len(batches), BLOCK):
        # In any order: what a store leaves to its checkpoint thread burdens the next one.
        shuffle(names)
        for name in names:
            made[name].write(batches[first : first + BLOCK])
    spent = {name: each.spent_s for name, each in made.items()}
    stored = {each.close() for each in made.values()}
    assert len(stored) == 1, stored
    return spent


def costs(parent: Path, synchronous: Synchronous, batches: list[bytes]) -> dict[str, Any]:
    rounds = [compare(parent, synchronous, batches) for _ in range(ROUNDS)]
    spent = {name: [s for each in rounds for s in each[name]] for name in KINDS}
    blocks = list(zip(*spent.values(), strict=True))
    shares = [sorted(1 - block[n] / block[0] for block in blocks) for n in range(len(KINDS))]
    return {
        "rows_per_s": round(ROUNDS * len(batches) * BATCH_ROWS / sum(spent["product"])),
        "checksums_cost": with_error(shares[1]),
        "mark_costs": with_error(shares[2]),
        "both_cost": with_error(shares[3]),
    }


def with_error(shares: list[float]) -> list[float]:
    """The median, and its standard error by the middle half."""
    low, middle, high = statistics.quantiles(shares, n=4)
    return [round(middle, 3), round((high - low) / 1.35 * 1.25 / len(shares) ** 0.5, 3)]


def integrity(parent: Path, payload: Payload, rows: int = 200_000) -> dict[str, Any]:
    """Shares of the rate, by how commits are synced and by the order of keys."""
    found: dict[str, Any] = {}
    for keys in ("ordered", "random"):
        batches = make_batches(keys, rows, payload)
        for synchronous in ("normal", "full"):
            found[f"{keys}_{synchronous}"] = costs(parent, synchronous, batches)
    return found
