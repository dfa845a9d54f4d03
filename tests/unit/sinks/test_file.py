"""The file sink: one line a result, each once, whatever is done to the process or the file."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from litejoin.errors import SinkError
from litejoin.plan.nodes import FileSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import BatchSink, Outcome
from litejoin.sinks.file import FileSink
from tests.unit.delivery.harness import join_plan, make_plan
from tests.unit.sinks.test_sqlite import result

OTHER = "shop/another-epoch-00"


class Lines:
    """A sink's file; `send` opens the sink anew, as after a restart."""

    def __init__(self, folder: Path, max_bytes: int = 0, keep: int = 3) -> None:
        self.path = folder / "out.jsonl"
        self.sink_plan = FileSinkPlan("lines", "at_least_once", self.path, max_bytes, keep)
        self.plan = make_plan(folder, [join_plan("orders", "lines")], [self.sink_plan])

    def sink(self) -> FileSink:
        return FileSink(self.sink_plan, self.plan)

    def send(self, *batches: Sequence[Result]) -> list[Outcome]:
        async def story() -> list[Outcome]:
            sink = self.sink()
            await sink.open()
            outcomes = [o for batch in batches for o in await sink.deliver_batch(batch)]
            await sink.close()
            return outcomes

        return asyncio.run(story())

    def seqs(self, suffix: str = "") -> list[int]:
        text = self.path.with_name(self.path.name + suffix).read_text()
        assert text.endswith("\n")
        return [json.loads(line)["seq"] for line in text.splitlines()]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    return Lines(tmp_path)


def batch(*positions: int, pipeline: str = "shop/0123456789abcdef") -> list[Result]:
    return [result(pos, f"k{pos}", {"n": pos}, pipeline=pipeline) for pos in positions]


def test_each_result_is_one_line_with_the_body_of_every_sink(lines: Lines) -> None:
    raw = [result(1, "a", '{"text": "x",\n "n": 1}'), result(2, "b")]
    assert [o.status for o in lines.send(raw)] == ["delivered"] * 2
    first, second = lines.path.read_bytes().splitlines()
    assert json.loads(first) == json.loads(raw[0].body())
    assert second == raw[1].body()
    assert lines.path.stat().st_mode & 0o777 == 0o600


def test_what_comes_again_after_a_crash_is_not_written_twice(lines: Lines) -> None:
    lines.send(batch(1, 2, 3), batch(4))
    lines.send(batch(2, 3, 4, 5), batch(6))
    assert lines.seqs() == [1, 2, 3, 4, 5, 6]


def test_another_data_directory_counts_from_one_again(lines: Lines) -> None:
    lines.send(batch(1, 2, 3))
    lines.send(batch(1, 2, pipeline=OTHER))
    assert lines.seqs() == [1, 2, 3, 1, 2]


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_half_a_line_is_cut_off_and_comes_again(lines: Lines, cut: int) -> None:
    lines.send(batch(1, 2, 3))
    os.truncate(lines.path, lines.path.stat().st_size - cut)
    lines.send(batch(2, 3, 4))
    assert lines.seqs() == [1, 2, 3, 4]


def test_a_file_is_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    lines = Lines(tmp_path, max_bytes=len(batch(1)[0].body()) * 2 + 10, keep=2)
    lines.send(*(batch(n) for n in range(1, 9)))
    assert (lines.seqs(), lines.seqs(".1"), lines.seqs(".2")) == ([7, 8], [5, 6], [3, 4])
    assert not lines.path.with_name("out.jsonl.3").exists()


def test_a_crash_right_after_a_rotation_repeats_nothing(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    lines.send(batch(1, 2, 3))
    lines.path.rename(tmp_path / "out.jsonl.1")
    lines.send(batch(2, 3, 4))
    assert lines.seqs() == [4]


def test_a_file_that_is_moved_away_is_followed_by_a_new_one(lines: Lines) -> None:
    async def story() -> None:
        sink = lines.sink()
        await sink.open()
        await sink.deliver_batch(batch(1, 2))
        lines.path.rename(lines.path.with_name("moved"))
        await sink.deliver_batch(batch(3))
        await sink.close()

    asyncio.run(story())
    assert lines.seqs() == [3]
    assert len(lines.path.with_name("moved").read_text().splitlines()) == 2


@pytest.mark.parametrize("kept", [20, 200])
def test_a_failed_write_leaves_no_part_of_its_lines(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Half a line, or one whole line of two: both come again."""
    real, failures = os.write, [2]
    assert len(batch(2)[0].body()) < 200 < len(batch(2)[0].body()) * 2

    def full(fd: int, data: bytes) -> int:
        if failures[0] and len(data) > 10:
            failures[0] -= 1
            if failures[0]:
                return real(fd, data[:kept])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    async def story() -> tuple[Outcome, Outcome]:
        sink = lines.sink()
        await sink.open()
        await sink.deliver_batch(batch(1))
        monkeypatch.setattr(os, "write", full)
        failed = (await sink.deliver_batch(batch(2, 3)))[0]
        again = (await sink.deliver_batch(batch(2, 3)))[0]
        await sink.close()
        return failed, again

    failed, again = asyncio.run(story())
    assert failed.status == "retry"
    assert "No space left" in failed.error
    assert again.status == "delivered"
    assert lines.seqs() == [1, 2, 3]


@pytest.mark.parametrize(
    "name",
    ["state.db", "dlq.db", "shard-0000.db-wal", ".", "marks.tmp", "quarantine.json", "archive/x"],
)
def test_the_pipelines_own_files_are_refused(tmp_path: Path, name: str) -> None:
    lines = Lines(tmp_path)
    lines.sink_plan = FileSinkPlan("lines", "at_least_once", tmp_path / name, 0, 0)
    with pytest.raises(SinkError, match="not a file a sink may write"):
        lines.send(batch(1))


def test_a_missing_folder_refuses_the_start(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    lines.sink_plan = FileSinkPlan("lines", "at_least_once", tmp_path / "none" / "x", 0, 0)
    with pytest.raises(SinkError, match="there is no folder"):
        lines.send(batch(1))


def test_delivery_takes_it_for_a_batch_sink(lines: Lines) -> None:
    sink = lines.sink()
    assert isinstance(sink, BatchSink)
    assert sink.position("any") is None
