"""Where a stream goes on: what came during a replay, positions that were lost, what is left out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from litejoin.records import Result, ResultOp
from litejoin.sinks.sse.events import Wire
from litejoin.store.log import ResultLog
from tests.unit.sinks.test_sse import EPOCH, Served, run, until
from tests.unit.store.state_writer import StateWriter

WIRE = Wire(EPOCH, [(5, 10)])


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    writer = StateWriter(tmp_path / "state.db", "orders", "users", "secret")
    yield writer
    writer.close()


def test_what_changes_during_a_replay_comes_after_it(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        hub = served.hub
        served.put("orders", "a", {"n": 1})
        positions = hub.positions

        async def slow(*args: Any, **options: Any) -> tuple[Sequence[int], int]:
            found = await positions(*args, **options)
            pos = served.put("orders", "b", {"n": 2})
            await until(lambda: hub.pos == pos)
            return found

        hub.positions = slow  # type: ignore[method-assign]
        stream = await served.subscribe(replay="true")
        await until(lambda: len(stream.events) == 3)
        assert [(e.name, e.id[9:]) for e in stream.events] == [
            ("join_result", "1"), ("replay_complete", "1"), ("join_result", "2"),
        ]  # fmt: skip

    run(writer, story)


@pytest.mark.parametrize("writes_first", [True, False])
def test_positions_and_their_head_are_of_one_moment(
    writer: StateWriter, monkeypatch: pytest.MonkeyPatch, writes_first: bool
) -> None:
    reader = ResultLog(writer.path, "shop", EPOCH)
    head = reader.head

    def busy() -> int:
        if writes_first:
            writer.put("orders", "b", {"n": 2})
            return head()
        found = head()
        writer.put("orders", "b", {"n": 2})
        return found

    writer.put("orders", "a", {"n": 1})
    monkeypatch.setattr(reader, "head", busy)
    positions, upto = reader.positions(limit=10)
    assert list(positions) == list(range(1, upto + 1))
    reader.close()


@pytest.mark.parametrize(("resume", "resets"), [(5, False), (6, True), (10, True), (11, False)])
def test_a_position_that_a_restore_left_out_resets(
    writer: StateWriter, resume: int, resets: bool
) -> None:
    writer.db.execute("INSERT INTO meta VALUES('lost', '[[5, 10]]')")
    for n in range(12):
        writer.put("orders", n, {"n": n})

    async def story(served: Served) -> None:
        stream = await served.subscribe(resume=WIRE.id_of(resume))
        await until(lambda: len(stream.events) > 0)
        assert (stream.events[0].name == "reset") is resets

    run(writer, story)


def test_a_stream_that_catches_up_leaves_out_what_a_live_one_does(writer: StateWriter) -> None:
    """Other keys, and deletes of a join that ignores them."""
    writer.put("users", "a", {"n": 1})
    writer.put("users", "a")
    writer.put("orders", "b", {"n": 1})
    writer.put("orders", "a", {"n": 2})

    async def story(served: Served) -> None:
        stream = await served.subscribe(resume=WIRE.id_of(0), key="a")
        await until(lambda: 4 in stream.seqs())
        assert stream.seqs() == [1, 4]

    run(writer, story)


def test_a_reset_leaves_no_position_behind() -> None:
    assert b"id:" not in WIRE.reset("why")


def test_an_event_is_one_line_of_data() -> None:
    result = Result(1, "orders", '"a"', '[{"n":\n1,\r"m":2}]', ResultOp.UPSERT, 0, "shop/e")
    for event in (WIRE.event(result), WIRE.replayed(result)):
        lines = event.split(b"\n")
        assert [line.partition(b":")[0] for line in lines] == [b"id", b"event", b"data", b"", b""]
        assert b"\r" not in event
