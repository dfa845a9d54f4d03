"""One changed record is one change: what an api source makes of healthy polls."""

import asyncio
import json
import logging
from typing import Any

import pytest

from litejoin.clock import ManualClock
from litejoin.errors import OverloadedError, PathError, StorageFullError
from litejoin.sources.api import ApiSource
from tests.unit.sources.api_world import World, answer, records, world, zipped


def order(key: int, value: object = 0) -> dict[str, object]:
    return {"id": key, "v": value}


def run(story: Any) -> None:
    asyncio.run(story)


def test_each_difference_between_polls_is_one_change() -> None:
    async def story(w: World) -> None:
        assert await w.poll(order(1), order(2)) == [("UPSERT", "1"), ("UPSERT", "2")]
        assert await w.poll(order(2), order(1, 0.0)) == []
        assert await w.poll(order(1, 5), order(3)) == [
            ("UPSERT", "1"),
            ("UPSERT", "3"),
            ("DELETE", "2"),
        ]
        assert w.store.values() == {"1": order(1, 5), "3": order(3)}
        assert w.store.log[2].extra == b'{"$.v":[0,5]}'
        assert {row.key for row in w.store.state.values()} == {b"1", b"3"}

    with world() as w:
        run(story(w))


def test_a_topic_row_and_its_state_row_are_neighbours_in_one_batch() -> None:
    async def story(w: World) -> None:
        await w.poll(order(1), order(2))
        await w.poll(order(1, 9))
        for batch in w.store.batches:
            for topic, state in zip(batch[::2], batch[1::2], strict=True):
                assert (topic.key, topic.kind + 2) == (state.key, state.kind)

    with world() as w:
        run(story(w))


def test_hash_mode_keeps_no_records_and_tells_no_changes() -> None:
    async def story(w: World) -> None:
        await w.poll(order(1))
        assert await w.poll(order(1, 2)) == [("UPSERT", "1")]
        assert w.store.topic[b"1"].extra == b""
        assert w.store.state[b"1"].payload == b""

    with world(change_detection="hash") as w:
        run(story(w))


def test_without_initial_snapshot_the_first_poll_only_fills_the_state() -> None:
    async def story(w: World) -> None:
        assert await w.poll(order(1), order(2)) == []
        assert len(w.store.state) == 2
        w.restart()
        assert await w.poll(order(1, 1), order(2)) == [("UPSERT", "1")]
        assert w.store.topic[b"1"].extra == b'{"$.v":[0,1]}'

    with world(initial_snapshot=False) as w:
        run(story(w))


def test_ignored_fields_are_no_change() -> None:
    async def story(w: World) -> None:
        await w.poll({"id": 1, "at": 1, "m": [{"r": 1}]})
        assert await w.poll({"id": 1, "at": 2, "m": [{"r": 2}]}) == []
        assert await w.poll({"id": 1, "at": 3, "m": []}) == [("UPSERT", "1")]

    with world(ignore_fields=("at", "m.#.r")) as w:
        run(story(w))


def test_a_restart_changes_nothing() -> None:
    async def story(w: World) -> None:
        await w.poll(order(1), order(2), order(3))
        w.restart()
        assert await w.poll(order(3), order(2, 0.0), order(1)) == []
        assert await w.poll(order(3), order(2)) == [("DELETE", "1")]

    with world() as w:
        run(story(w))


def test_a_crash_between_submit_and_ack_replays_to_nothing_new() -> None:
    async def story(w: World) -> None:
        await w.poll(order(1), order(2))
        w.store.failures = [(asyncio.CancelledError(), 4)]
        with pytest.raises(asyncio.CancelledError):
            await w.poll(order(1, 7), order(2, 7))
        w.restart()
        assert await w.poll(order(1, 7), order(2, 7)) == []
        w.store.failures = [(asyncio.CancelledError(), 2)]
        with pytest.raises(asyncio.CancelledError):
            await w.poll(order(1, 8), order(2, 8))
        w.restart()
        assert await w.poll(order(1, 8), order(2, 8)) == [("UPSERT", "2")]

    with world() as w:
        run(story(w))


def test_a_full_disk_fails_the_poll_and_the_next_one_makes_up_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(w: World) -> None:
        await w.poll(order(1), order(2))
        w.store.failures = [(StorageFullError("no space left"), 2)]
        assert await w.poll(order(1, 7), order(2, 7)) == [("UPSERT", "1")]
        assert "poll failed (1/3): no space left" in caplog.text
        assert await w.poll(order(1, 7), order(2, 7)) == [("UPSERT", "2")]
        assert await w.poll(order(1, 7), order(2, 7)) == []

    with world() as w:
        run(story(w))


def test_a_full_channel_makes_the_poll_wait() -> None:
    async def story(w: World) -> None:
        w.store.failures = [(OverloadedError("full"), 0), (OverloadedError("full"), 0)]
        assert await w.poll(order(1)) == [("UPSERT", "1")]
        assert w.store.waits == 2

    with world() as w:
        run(story(w))


def test_a_large_first_poll_is_handed_over_in_pieces() -> None:
    async def story(w: World) -> None:
        await w.poll(*(order(i) for i in range(4500)))
        assert len(w.store.topic) == 4500
        assert max(len(batch) for batch in w.store.batches) == 2000
        assert await w.poll(*(order(i, i % 2) for i in range(4500))) == [
            ("UPSERT", str(i)) for i in range(1, 4500, 2)
        ]

    with world() as w:
        run(story(w))


def test_of_one_key_in_a_response_the_last_record_stands(caplog: pytest.LogCaptureFixture) -> None:
    async def story(w: World) -> None:
        assert await w.poll(order(1, "a"), order(2), order(1, "b")) == [
            ("UPSERT", "2"), ("UPSERT", "1")
        ]  # fmt: skip
        assert w.store.values()["1"] == order(1, "b")
        assert "1 records repeat a key" in caplog.text

    with world() as w:
        run(story(w))


def test_a_record_without_key_is_skipped_and_holds_deletes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(w: World) -> None:
        await w.poll(order(1), order(2), order(3))
        assert await w.poll(order(1), {"v": 1}, order(4)) == [("UPSERT", "4")]
        assert "1 of 3 records skipped: the key of record 1 is missing" in caplog.text
        assert await w.poll(order(1), order(4)) == [("DELETE", "2"), ("DELETE", "3")]

    with world() as w:
        run(story(w))


def test_deletes_are_only_told_when_asked_for() -> None:
    async def story(w: World) -> None:
        await w.poll(order(1), order(2))
        assert await w.poll(order(1)) == []

    with world(detect_deletes=False) as w:
        run(story(w))


def test_a_list_turned_empty_is_held_until_a_second_poll_agrees(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(w: World) -> None:
        await w.poll(order(1), order(2))
        w.upstream.script = [records()]
        assert await w.poll() == []
        assert "2 records are gone from the response at once; kept until" in caplog.text
        assert w.source.health()["held_deletes"] == 2
        assert await w.poll() == [("DELETE", "1"), ("DELETE", "2")]

    with world() as w:
        run(story(w))


def test_many_records_gone_at_once_are_held_and_come_back_unharmed() -> None:
    async def story(w: World) -> None:
        everything = [order(i) for i in range(30)]
        await w.poll(*everything)
        assert await w.poll(*everything[:15]) == []
        assert await w.poll(*everything) == []
        assert await w.poll(*everything[:15]) == []
        # The second complete poll agrees on 15..29; that 14 went, too, is news of its own.
        assert await w.poll(*everything[:14]) == [("DELETE", str(i)) for i in range(15, 30)]
        assert await w.poll(*everything[:14]) == [("DELETE", "14")]

    with world() as w:
        run(story(w))


def test_a_failed_poll_is_no_second_opinion() -> None:
    async def story(w: World) -> None:
        everything = [order(i) for i in range(30)]
        await w.poll(*everything)
        assert await w.poll(*everything[:10]) == []
        w.upstream.script = [answer(b"[]", "500 Oops")]
        assert await w.poll() == []
        assert len(w.store.topic) == 30
        assert len(await w.poll(*everything[:10])) == 20

    with world() as w:
        run(story(w))


def test_few_records_gone_are_deleted_at_once() -> None:
    async def story(w: World) -> None:
        await w.poll(*(order(i) for i in range(20)))
        assert len(await w.poll(*(order(i) for i in range(10)))) == 10
        await w.poll(*(order(i) for i in range(100)))
        assert len(await w.poll(*(order(i) for i in range(70)))) == 30
        assert len(await w.poll(*(order(i) for i in range(49)))) == 21
        assert await w.poll(*(order(i) for i in range(34))) == [], "15 of 49, not of 100"

    with world() as w:
        run(story(w))


def test_a_single_object_is_one_record() -> None:
    weather = {"id": 2643743, "name": "London", "main": {"temp": 281.2}, "weather": [{"id": 800}]}

    async def story(w: World) -> None:
        w.upstream.script = [answer(json.dumps(weather).encode())]
        assert await w.poll() == [("UPSERT", "2643743")]
        weather["main"] = {"temp": 282}
        w.upstream.script = [answer(json.dumps(weather).encode())]
        assert await w.poll() == [("UPSERT", "2643743")]
        assert w.store.topic[b"2643743"].extra == b'{"$.main.temp":[281.2,282]}'

    with world() as w:
        run(story(w))


def test_response_path_and_composite_keys() -> None:
    async def story(w: World) -> None:
        body = {"meta": {}, "data": {"rows": [{"a": "x", "b": {"c": 2}}]}}
        w.upstream.script = [answer(json.dumps(body).encode())]
        assert await w.poll() == [("UPSERT", "x:2")]

    with world(response_path="data.rows", key_path=("a", "b.c")) as w:
        run(story(w))


def test_payloads_are_the_bytes_of_the_response() -> None:
    text = b'{"id": 1, "n": 18446744073709551616, "e":1e400,"u":"\\u00e9"}'

    async def story(w: World) -> None:
        w.upstream.script = [zipped(b"\xef\xbb\xbf[" + text + b"]")]
        await w.poll()
        assert w.store.topic[b"1"].payload == text

    with world() as w:
        run(story(w))


def test_the_request_is_the_configured_one_and_the_connection_is_kept() -> None:
    async def story(w: World) -> None:
        w.upstream.script = [records(order(1))]
        for _ in range(3):
            await w.poll()
        assert w.upstream.connections == 1
        head, _, body = w.upstream.requests[-1].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /records?token=s3cret HTTP/1.1"
        assert b"X-Token: h1dden" in lines
        assert b"accept: text/plain" in lines
        assert b"Accept-Encoding: gzip" in lines
        assert b"Content-Type: application/json" in lines
        assert body == b'{"q":1}'

    headers = {"X-Token": "h1dden", "accept": "text/plain"}
    with world(method="POST", body='{"q":1}', headers=headers) as w:
        run(story(w))


def test_bad_paths_are_refused_when_the_source_is_made() -> None:
    with pytest.raises(PathError), world(key_path=("a..b",)):
        pass


def test_the_first_poll_is_logged_and_quiet_polls_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def story(w: World) -> None:
        await w.poll(order(1), order(2))
        await w.poll(order(1), order(2))
        await w.poll(order(1, 5), order(2))

    with world() as w:
        run(story(w))
    assert [record.getMessage() for record in caplog.records] == [
        "api-source orders-api: first poll: 2 records in 1 page, 0 ms: "
        "2 created, 0 updated, 0 deleted"
    ]
    assert w.source.health() == {
        "status": "ok", "records": 2, "consecutive_failures": 0, "held_deletes": 0,
        "last_poll": "2023-11-14T22:13:20.000Z", "polls": 3, "requests": 3, "pages": 1,
        "failed_polls": 0, "changes": {"created": 2, "updated": 1, "deleted": 0},
    }  # fmt: skip


def test_run_polls_on_its_grid_and_ends_on_cancel() -> None:
    class Script:
        """Sleeps by moving the clock; the fourth sleep never ends."""

        def __init__(self, clock: ManualClock) -> None:
            self.clock = clock
            self.slept: list[float] = []
            self.done = asyncio.Event()

        async def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)
            if len(self.slept) == 4:
                self.done.set()
                await asyncio.Event().wait()
            self.clock.advance(round(seconds * 1000))

    async def story(w: World) -> None:
        script = Script(w.clock)
        w.source = ApiSource(w.plan, w.store, w.store, w.clock, w.executor, sleep=script.sleep)
        task = asyncio.create_task(w.source.run())
        await script.done.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert script.slept[0] < 1
        assert script.slept[1:] == [1, 1, 1]
        assert len(w.upstream.requests) == 3

    with world() as w:
        run(story(w))
