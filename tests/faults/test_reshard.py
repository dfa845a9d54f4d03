"""Another number of shards: every row is kept, and a run that was killed anywhere goes on."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from litejoin._ext.route import shard_of
from litejoin.errors import CorruptionError, StartRefusedError, StorageError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.sources.kafka.offsets import spread_offsets
from litejoin.store.layout import Layout
from litejoin.store.reshard import abandon, reshard
from litejoin.store.sqlite import open_database
from litejoin.store.writer import ShardStore
from tests.differential.pipeline import EnginePipeline

QUERIES = {
    "left": "SELECT o.key, json_extract(o.payload, '$.v') AS v, json_extract(u.payload, '$.v') AS w"
    " FROM orders o LEFT JOIN users u ON json_extract(o.payload, '$.u') = u.key",
}
OLD, NEW = 3, 5
ROWS = 200


def random_rows(source: random.Random) -> list[Row]:
    rows = []
    for n in range(ROWS):
        payload = f'{{"u":"u{n % 7}","v":{source.randrange(1000)}}}'.encode()
        rows.append(Row(1 + n % 2, RowKind.UPSERT, n, f"{'ou'[n % 2]}{n % 90}".encode(), payload))
    return rows


def fill(root: Path) -> Layout:
    """Two topics, one with deletes, and the diff state of a source, evaluated and closed."""
    pipeline = EnginePipeline(root, OLD, QUERIES)
    state = pipeline.store.source_state("feed")
    rows = random_rows(random.Random(1))
    rows += [
        Row(state.number, RowKind.STATE_UPSERT, 0, f"s{n}".encode(), b"{}", bytes(16))
        for n in range(30)
    ]
    pipeline.store.keep_deletes({1})
    rows += [Row(1, RowKind.DELETE, n, f"o{n}".encode()) for n in range(0, 90, 6)]
    flush = pipeline.store.flush([pack_rows(rows)])
    pipeline.engine.apply(flush.changes, flush.seq)
    pipeline.close()
    return pipeline.store.layout


def contents(layout: Layout, count: int) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table without its id, and which shard it is in is right."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for shard in range(count):
        with open_database(layout.shard(shard), create=False) as connection:
            for table, columns in (
                ("t1", "key, payload, timestamp_ms, op, changes, checksum"),
                ("d1", "key, payload, timestamp_ms, op, changes, checksum"),
                ("t2", "key, payload, timestamp_ms, op, changes, checksum"),
                ("s1", "key, hash, payload, checksum"),
            ):
                for row in connection.execute(f"SELECT {columns} FROM {table}"):
                    assert shard_of(str(row[0]).encode(), count) == shard
                    found.setdefault(table, []).append(row)
        connection.close()
    return {table: sorted(rows, key=str) for table, rows in found.items()}


def test_rows_results_and_positions_are_kept(tmp_path: Path) -> None:
    layout = fill(tmp_path / "data")
    before = contents(layout, OLD)
    said: list[str] = []
    notes = [layout.root / f".{name}-litestream" for name in ("shard-0000.db", "catalogue.db")]
    for note in notes:
        (note / "ltx").mkdir(parents=True)
    done = reshard(layout, NEW, "p", {}, said.append)
    assert sum(pair[0] for pair in done.sums.values()) == sum(map(len, before.values()))
    assert contents(layout, NEW) == before
    assert not layout.reshard.exists()
    assert not any(note.exists() for note in notes), "they are of files that are gone"
    assert layout.shard_numbers() == list(range(NEW))
    pipeline = EnginePipeline(layout.root, NEW, QUERIES)
    assert pipeline.store.notices == []
    head = pipeline.engine.state.head
    flush = pipeline.store.flush([pack_rows([Row(1, RowKind.UPSERT, 1, b"new", b'{"v":1}')])])
    assert pipeline.engine.apply(flush.changes, flush.seq).head == head + 1, "no result came again"
    pipeline.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from litejoin.store.layout import Layout
from litejoin.store import reshard

left = int(sys.argv[2])
replace, rename, remove = reshard.replace_file, Path.rename, os.unlink

def step(text):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def replaced(path, data):
    step("before")
    replace(path, data)
    step("after")

def renamed(self, target):
    step("before")
    done = rename(self, target)
    step("after")
    return done

def removed(path, **more):
    step("before")
    remove(path, **more)
    step("after")

reshard.replace_file, Path.rename, os.unlink = replaced, renamed, removed
layout = Layout(Path(sys.argv[1]))
if len(sys.argv) > 3:
    reshard.reshard(layout, int(sys.argv[3]), "p", {}, step)
else:
    reshard.abandon(layout, "p")
print("finished")
"""


def killed_after(root: Path, steps: int, *count: int) -> bool:
    """Run until the n-th step, or give up without a count; False when it got through."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(steps), *map(str, count)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("stride", [1, 7])
def test_a_run_killed_at_every_step_goes_on(tmp_path: Path, stride: int) -> None:
    """`stride` 1: each run gets one step further than the one before it began, as long as it
    takes; 7: several steps at once, so that each phase is also entered in the middle.
    """
    layout = fill(tmp_path / "data")
    before = contents(layout, OLD)
    runs = 0
    steps = stride
    while killed_after(layout.root, steps, NEW):
        runs += 1
        if (layout.reshard / "progress.json").exists():
            with pytest.raises((StartRefusedError, StorageError)):
                # Nothing runs on a directory that is on its way, with either number.
                ShardStore.open(layout.root, pipeline="p", shard_count=OLD, synchronous="normal")
        elif layout.shard_numbers() == list(range(NEW)):
            break  # done, but for an empty folder
        steps += stride
        assert runs < 60
    assert runs > 2
    assert contents(layout, NEW) == before
    assert not list(layout.reshard.glob("*/*"))
    ShardStore.open(layout.root, pipeline="p", shard_count=NEW, synchronous="normal").close()


def test_damage_stops_it_before_anything_is_moved(tmp_path: Path) -> None:
    layout = fill(tmp_path / "data")
    with open_database(layout.shard(1)) as connection:
        connection.execute("UPDATE t1 SET timestamp_ms = 1 WHERE id = 1")
    connection.close()
    with pytest.raises(CorruptionError, match="fails its checksum"):
        reshard(layout, NEW, "p", {}, print)
    assert layout.shard_numbers() == list(range(OLD))


def test_what_cannot_be_resharded_is_left_alone(tmp_path: Path) -> None:
    layout = fill(tmp_path / "data")
    with pytest.raises(StartRefusedError, match="has 3 shards already"):
        reshard(layout, OLD, "p", {}, print)
    layout.quarantine.write_text('{"1": {"reason": "r", "since": "s"}}')
    with pytest.raises(StartRefusedError, match="has quarantined shards"):
        reshard(layout, NEW, "p", {}, print)
    layout.quarantine.unlink()
    store = ShardStore.open(layout.root, pipeline="p", shard_count=OLD, synchronous="normal")
    store.flush([pack_rows([Row(1, RowKind.UPSERT, 1, b"new", b"{}")])])
    store.close()
    with pytest.raises(StartRefusedError, match="changes that its joins have not seen yet"):
        reshard(layout, NEW, "p", {}, print)
    assert not layout.reshard.exists()
    with pytest.raises(StartRefusedError, match="holds no pipeline's data"):
        reshard(Layout(tmp_path / "nothing"), NEW, "p", {}, print)


def test_a_run_can_be_given_up_until_it_moves(tmp_path: Path) -> None:
    layout = fill(tmp_path / "data")
    before = contents(layout, OLD)
    assert not abandon(layout, "p")
    assert killed_after(layout.root, 6, NEW)
    with pytest.raises(StartRefusedError, match="on its way to 5 shards"):
        reshard(layout, NEW + 1, "p", {}, print)
    assert abandon(layout, "p")
    assert contents(layout, OLD) == before


@pytest.mark.parametrize("steps", [2, 5, 8])
def test_giving_up_may_be_killed_as_well(tmp_path: Path, steps: int) -> None:
    layout = fill(tmp_path / "data")
    before = contents(layout, OLD)
    assert killed_after(layout.root, 8, NEW)
    assert killed_after(layout.root, steps)
    reshard(layout, NEW, "p", {}, print)
    assert contents(layout, NEW) == before


def test_offsets_of_kafka_go_on_at_the_smallest() -> None:
    mark = 7 << 64
    rows = [
        (json.dumps(["g", "t", 0, n]), (mark | offset).to_bytes(16, "big"))
        for n, offset in enumerate((7, 5, 9))
    ]
    found = dict(spread_offsets(rows, 3, NEW))
    assert {shard_of(key.encode(), NEW) for key in found} == set(range(NEW))
    assert set(found.values()) == {(mark | 5).to_bytes(16, "big")}
    some = dict(spread_offsets(rows[:2], 3, NEW))
    beginning = mark.to_bytes(16, "big")
    assert set(some.values()) == {beginning}, "one shard has stored none: from the beginning"
