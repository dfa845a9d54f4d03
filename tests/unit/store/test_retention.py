"""Rows older than their topic keeps them go, in chunks; a clock that jumped deletes nothing."""

from collections.abc import Callable

from litejoin.clock import ManualClock, SteadyClock
from litejoin.records import unpack_rows
from litejoin.store.changes import unpack_changes
from litejoin.store.retention import CHUNK_ROWS, Retention
from litejoin.store.writer import ShardStore

Opener = Callable[..., ShardStore]
Builder = Callable[..., bytes]

HOUR_MS = 3_600_000


def expire(store: ShardStore, retention: Retention, topics: dict[int, int]) -> set[bytes]:
    gone = set()
    for batch in retention.expired(topics):
        assert len(list(unpack_rows(batch))) <= CHUNK_ROWS
        for changes in store.flush([batch]).changes:
            gone |= {change.key for change in unpack_changes(changes) if change.new is None}
    return gone


def test_only_rows_past_their_time_go(open_store: Opener, upserts: Builder) -> None:
    store, clock = open_store(), ManualClock()
    short, long = store.create_topic("short"), store.create_topic("long")
    retention = Retention(store.open_readers(), SteadyClock(clock))
    topics = {short: HOUR_MS, long: 5 * HOUR_MS}
    for topic in topics:
        store.flush([upserts(topic, 2500, timestamp_ms=clock.now_ms())])
    clock.advance(HOUR_MS - 1)
    store.flush([upserts(short, 10, "1", timestamp_ms=clock.now_ms())])
    assert expire(store, retention, topics) == set()
    clock.advance(1)
    assert expire(store, retention, topics) == {f"k{n}".encode() for n in range(10, 2500)}
    assert expire(store, retention, topics) == set()


def test_a_row_written_after_it_was_found_stays(open_store: Opener, upserts: Builder) -> None:
    store, clock = open_store(1), ManualClock()
    topic = store.create_topic("t")
    store.flush([upserts(topic, 1, timestamp_ms=clock.now_ms())])
    clock.advance(2 * HOUR_MS)
    retention = Retention(store.open_readers(), SteadyClock(clock))
    (batch,) = retention.expired({topic: HOUR_MS})
    store.flush([upserts(topic, 1, "1", timestamp_ms=clock.now_ms())])
    assert store.flush([batch]).changes == [b""]


def test_a_jump_of_the_wall_clock_expires_nothing(open_store: Opener, upserts: Builder) -> None:
    store, clock = open_store(1), ManualClock()
    topic = store.create_topic("t")
    store.flush([upserts(topic, 5, timestamp_ms=clock.now_ms())])
    retention = Retention(store.open_readers(), SteadyClock(clock))
    clock.jump(10 * HOUR_MS)
    assert expire(store, retention, {topic: HOUR_MS}) == set()
    clock.advance(HOUR_MS - 1)
    clock.jump(-10 * HOUR_MS)
    assert expire(store, retention, {topic: HOUR_MS}) == set()
    clock.advance(1)
    assert len(expire(store, retention, {topic: HOUR_MS})) == 5


def test_while_the_wall_clock_is_not_believed_what_was_due_stays_too(
    open_store: Opener, upserts: Builder
) -> None:
    store, clock = open_store(1), ManualClock()
    topic = store.create_topic("t")
    store.flush([upserts(topic, 5, timestamp_ms=clock.now_ms())])
    retention = Retention(store.open_readers(), SteadyClock(clock))
    clock.advance(HOUR_MS)
    clock.jump(10 * HOUR_MS)
    assert expire(store, retention, {topic: HOUR_MS}) == set()
    clock.jump(-10 * HOUR_MS)
    assert len(expire(store, retention, {topic: HOUR_MS})) == 5


def test_a_clock_set_right_is_believed_once_it_is_steady(
    open_store: Opener, upserts: Builder
) -> None:
    store, clock = open_store(1), ManualClock()
    topic = store.create_topic("t")
    retention = Retention(store.open_readers(), SteadyClock(clock))
    clock.jump(10 * HOUR_MS)
    store.flush([upserts(topic, 5, timestamp_ms=clock.now_ms() - 2 * HOUR_MS)])
    assert expire(store, retention, {topic: HOUR_MS}) == set()
    clock.advance(HOUR_MS)
    assert len(expire(store, retention, {topic: HOUR_MS})) == 5
