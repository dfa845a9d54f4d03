"""Keyed requests whose shards commit one by one, with crashes between: each row exactly once."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin._ext.route import shard_of
from litejoin.clock import ManualClock
from litejoin.errors import RequestError
from litejoin.records import Row, RowKind, pack_rows, unpack_rows
from litejoin.sources.http_keys import FORGET_AT_ONCE, KEPT_MS, KeyedRequests
from litejoin.sources.http_marks import StoredAnswers

STATE, TOPIC = 7, 1


class Crash(Exception):
    """The process, or a disk, gave up between the commits of two shards."""


class Shards:
    """State rows by key, and how often each topic row was written. Survives `Process`."""

    number = STATE

    def __init__(self, count: int) -> None:
        self.count = count
        self.state: dict[bytes, Row] = {}
        self.written: Counter[bytes] = Counter()
        self.flushes = 0

    def commit(self, batch: bytes, shards: Sequence[int]) -> None:
        self.flushes += 1
        for row in unpack_rows(batch):
            if shard_of(row.key, self.count) not in shards:
                continue
            if row.kind is RowKind.UPSERT:
                self.written[row.key] += 1
            elif row.kind is RowKind.STATE_UPSERT:
                self.state[row.key] = row
            else:
                self.state.pop(row.key, None)

    async def hashes(self) -> Sequence[tuple[bytes, bytes]]:
        return [(key, row.extra) for key, row in self.state.items()]

    async def payloads(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.state[key].payload if key in self.state else None for key in keys]

    def is_new(self) -> bool:
        return False

    async def parents(self, topic: str) -> Sequence[bytes]:
        return []

    async def mark_started(self) -> None: ...


class Process:
    """One life of a pipeline over the shards."""

    def __init__(self, shards: Shards, clock: ManualClock) -> None:
        self.shards = shards
        self.keyed = KeyedRequests("in", StoredAnswers(lambda: shards, shards.count, clock))

    async def send(self, key: str, keys: Sequence[str], committed: Sequence[int] | None) -> int:
        """`committed`: the shards that commit before the crash; None: all, no crash."""
        batch = pack_rows(Row(TOPIC, RowKind.UPSERT, 5, k.encode(), b"1") for k in keys)

        async def submit(packed: bytes, count: int, rows: int) -> None:
            assert count == sum(1 for _ in unpack_rows(packed))
            assert rows == len(keys)
            everywhere = range(self.shards.count)
            self.shards.commit(packed, everywhere if committed is None else committed)
            if committed is not None:
                raise Crash

        body = "\n".join(keys).encode()
        return await self.keyed.once(key.encode(), body, lambda: (batch, len(keys)), submit)


@given(
    st.lists(st.text("abcdef", min_size=1, max_size=4), max_size=12, unique=True),
    st.lists(st.tuples(st.sets(st.integers(0, 7)), st.booleans()), max_size=4),
    st.sampled_from([1, 2, 8]),
)
def test_every_row_is_written_once_over_crashes(
    keys: list[str], failures: list[tuple[set[int], bool]], count: int
) -> None:
    async def scenario() -> None:
        shards, clock = Shards(count), ManualClock()
        process = Process(shards, clock)
        is_done = False
        for committed, restarts in failures:
            try:
                assert await process.send("k", keys, sorted(committed)) == len(keys)
                is_done = True  # every shard had its rows: the answer needed no more
            except Crash:
                assert not is_done
            if restarts:
                process = Process(shards, clock)
        assert await process.send("k", keys, None) == len(keys)
        assert shards.written == Counter({key.encode(): 1 for key in keys})
        flushes = shards.flushes
        for again in (process, Process(shards, clock)):
            assert await again.send("k", keys, None) == len(keys)
            with pytest.raises(RequestError, match="another body"):
                await again.send("k", [*keys, "other"], None)
        assert shards.flushes == flushes

    asyncio.run(scenario())


def test_a_request_is_one_flush() -> None:
    async def scenario() -> int:
        shards = Shards(8)
        await Process(shards, ManualClock()).send("k", [f"key{n}" for n in range(20)], None)
        return shards.flushes

    assert asyncio.run(scenario()) == 1


def test_another_body_after_a_cut_is_a_new_request() -> None:
    async def scenario() -> None:
        shards, clock = Shards(8), ManualClock()
        first = [f"a{n}" for n in range(20)]
        with pytest.raises(Crash):
            await Process(shards, clock).send("k", first, [0, 1, 2])
        process = Process(shards, clock)
        assert await process.send("k", ["b"], None) == 1
        await process.send("k2", ["c"], None)  # takes the marks of the first one along
        for again in (process, Process(shards, clock)):
            assert await again.send("k", ["b"], None) == 1
            with pytest.raises(RequestError, match="another body"):
                await again.send("k", first, None)
        assert shards.written[b"b"] == 1
        assert len(shards.state) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("before", "first", "after", "second"),
    [(8, [0, 3, 5], 3, [1]), (2, [0], 8, [1, 3, 5])],  # all but one of those still needed
    ids=["fewer", "more"],
)
def test_rows_that_moved_to_other_shards_are_still_known(
    before: int, first: list[int], after: int, second: list[int]
) -> None:
    """`litejoin reshard` between the crash and the retry, which is cut again."""

    async def scenario(restarts: bool) -> None:
        shards, clock = Shards(before), ManualClock()
        keys = [f"key{n}" for n in range(40)]
        with pytest.raises(Crash):
            await Process(shards, clock).send("k", keys, first)
        shards.count = after
        process = Process(shards, clock)
        with pytest.raises(Crash):
            await process.send("k", keys, second)
        again = Process(shards, clock) if restarts else process
        assert await again.send("k", keys, None) == 40
        assert await Process(shards, clock).send("k", keys, None) == 40
        assert set(shards.written.values()) == {1}
        assert len(shards.written) == 40

    for restarts in (True, False):
        asyncio.run(scenario(restarts))


def test_marks_are_deleted_when_their_request_is_forgotten() -> None:
    async def scenario() -> None:
        shards, clock = Shards(2), ManualClock()
        process = Process(shards, clock)
        for n in range(5):
            await process.send(f"k{n}", ["a", "b", "c", "d"], None)
        with pytest.raises(Crash):
            await process.send("cut", ["a", "b", "c", "d"], [0])
        clock.advance(KEPT_MS + 1)
        process = Process(shards, clock)
        for n in range(1 + 5 // FORGET_AT_ONCE):
            await process.send(f"new{n}", ["a", "b", "c", "d"], None)
        assert {row.timestamp_ms for row in shards.state.values()} == {clock.now_ms()}

    asyncio.run(scenario())


def test_a_sender_that_goes_away_leaves_its_request_to_its_end() -> None:
    async def scenario() -> None:
        shards, gate = Shards(8), asyncio.Event()
        process = Process(shards, ManualClock())

        async def slow(packed: bytes, _count: int, _rows: int) -> None:
            await gate.wait()
            shards.commit(packed, range(8))

        batch = pack_rows([Row(TOPIC, RowKind.UPSERT, 5, b"a", b"1")])
        first = asyncio.ensure_future(process.keyed.once(b"k", b"a", lambda: (batch, 1), slow))
        await asyncio.sleep(0.05)
        first.cancel()
        retry = asyncio.ensure_future(process.send("k", ["a"], None))
        await asyncio.sleep(0)
        gate.set()
        assert await retry == 1
        assert shards.written == Counter({b"a": 1})

    asyncio.run(scenario())
