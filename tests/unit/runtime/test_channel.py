"""The channel is bounded, never loses a batch, and tells each sender what became of its rows."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from litejoin.errors import OverloadedError, StorageFullError
from litejoin.runtime import channel as module
from litejoin.runtime.channel import Channel


def run(test: Callable[[Channel], Awaitable[None]], *, opened: bool = True) -> None:
    async def main() -> None:
        channel = Channel(asyncio.get_running_loop(), lambda names: [1] * len(names))
        if opened:
            channel.open()
        await asyncio.wait_for(test(channel), 10)

    asyncio.run(main())


def test_nothing_is_taken_before_the_start_and_while_draining() -> None:
    async def test(channel: Channel) -> None:
        with pytest.raises(OverloadedError, match="starting"):
            channel.submit(b"x", 1)
        channel.open()
        channel.submit(b"x", 1)
        channel.refuse("draining")
        with pytest.raises(OverloadedError, match="draining"):
            channel.submit(b"y", 1)
        assert [item.batch for item in channel.take()] == [b"x"]

    run(test, opened=False)


def test_acks_arrive_with_the_fate_of_each_batch() -> None:
    async def test(channel: Channel) -> None:
        first, second = channel.submit(b"a", 1), channel.submit(b"b", 1)
        items = channel.take()
        channel.acknowledge(items, {1: StorageFullError("full")})
        await first
        with pytest.raises(StorageFullError):
            await second

    run(test)


def test_a_full_channel_refuses_and_polls_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCHES", 2)

    async def test(channel: Channel) -> None:
        for _ in range(2):
            channel.submit(b"a", 1)
        with pytest.raises(OverloadedError, match="2 batches wait") as error:
            channel.submit(b"a", 1)
        assert error.value.retry_after_s > 0
        waiting = asyncio.ensure_future(channel.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        await asyncio.to_thread(channel.take)
        await waiting

    run(test)


def test_bytes_are_bounded_too_but_a_single_large_batch_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)

    async def test(channel: Channel) -> None:
        channel.submit(b"a" * 1000, 1)
        with pytest.raises(OverloadedError):
            channel.submit(b"b", 1)
        assert len(channel.take()) == 1
        channel.submit(b"b", 1)

    run(test)


def test_one_flush_takes_a_bounded_number_of_bytes_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FLUSH_BYTES", 3)

    async def test(channel: Channel) -> None:
        for batch in (b"aa", b"b", b"cccc", b"d"):
            channel.submit(batch, 1)
        taken = [[item.batch for item in channel.take()] for _ in range(3)]
        assert taken == [[b"aa", b"b"], [b"cccc"], [b"d"]]

    run(test)


def test_stop_hands_out_what_waits_and_then_ends_the_thread() -> None:
    async def test(channel: Channel) -> None:
        taken: list[int] = []

        def work() -> None:
            while items := channel.take():
                taken.append(len(items))

        channel.submit(b"a", 1)
        channel.stop()
        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
        assert taken == [1]

    run(test)


def test_a_sender_that_gave_up_disturbs_nobody() -> None:
    async def test(channel: Channel) -> None:
        gone, stays = channel.submit(b"a", 1), channel.submit(b"b", 1)
        assert isinstance(gone, asyncio.Future)
        gone.cancel()
        channel.acknowledge(channel.take(), {})
        await stays

    run(test)


def test_the_next_flush_waits_for_those_who_were_answered() -> None:
    async def test(channel: Channel) -> None:
        channel.submit(b"a1", 1)
        channel.submit(b"b1", 1)
        items = channel.take()
        channel.submit(b"c1", 1)  # came while the others were written
        channel.acknowledge(items, {})
        taking = asyncio.create_task(asyncio.to_thread(channel.take, 60.0))
        for batch in (b"a2", b"b2"):
            await asyncio.sleep(0.05)
            assert not taking.done()
            channel.submit(batch, 1)
        assert [item.batch for item in await taking] == [b"c1", b"a2", b"b2"]

    run(test)


def test_a_lone_sender_is_not_kept_waiting() -> None:
    async def test(channel: Channel) -> None:
        for batch in (b"1", b"2"):
            channel.submit(batch, 1)
            items = await asyncio.to_thread(channel.take, 60.0)
            assert [item.batch for item in items] == [batch]
            channel.acknowledge(items, {})

    run(test)


def test_senders_that_do_not_come_again_are_not_waited_for_longer_than_said() -> None:
    async def test(channel: Channel) -> None:
        channel.submit(b"a", 1)
        channel.submit(b"b", 1)
        channel.acknowledge(channel.take(), {})
        channel.submit(b"c", 1)
        items = await asyncio.to_thread(channel.take, 0.01)
        assert [item.batch for item in items] == [b"c"]
        taking = asyncio.create_task(asyncio.to_thread(channel.take, 60.0))
        await asyncio.sleep(0.05)
        channel.stop()
        assert await taking == []

    run(test)
