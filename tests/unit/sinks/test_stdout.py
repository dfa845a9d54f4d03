"""The stdout sink: one line a result, and a pipe that is stuck or closed hurts nobody else."""

import asyncio
import io
import json
import os

from litejoin.plan.nodes import StdoutSinkPlan
from litejoin.records import Result, ResultOp
from litejoin.sinks.base import BatchSink, Outcome
from litejoin.sinks.stdout import StdoutSink


def result(pos: int, rows: str = '[{"n":1}]') -> Result:
    return Result(pos, "orders", f'"k{pos}"', rows, ResultOp.UPSERT, 0, "p/e")


def send(stream: io.BufferedIOBase, *results: Result) -> list[Outcome]:
    async def story() -> list[Outcome]:
        sink = StdoutSink(StdoutSinkPlan("out", "best_effort"), stream)  # type: ignore[arg-type]
        assert isinstance(sink, BatchSink)
        await sink.open()
        outcomes = await sink.deliver_batch(results)
        await sink.close()
        return list(outcomes)

    return asyncio.run(story())


def test_each_result_is_one_line_of_json() -> None:
    stream = io.BytesIO()
    pretty = '[{"payload":{\n  "a": "x\\ny"\n}}]'
    outcomes = send(stream, result(1), result(2, pretty))
    assert [o.status for o in outcomes] == ["delivered", "delivered"]
    lines = stream.getvalue().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2]
    assert json.loads(lines[1])["rows"][0]["payload"]["a"] == "x\ny"


def test_a_closed_pipe_is_a_retry_for_the_whole_batch() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as pipe:
        outcomes = send(pipe, result(1), result(2))
    assert [o.status for o in outcomes] == ["retry", "retry"]


def test_a_pipe_that_nobody_reads_does_not_hold_the_event_loop() -> None:
    read_end, write_end = os.pipe()

    async def story(pipe: io.RawIOBase) -> bool:
        sink = StdoutSink(StdoutSinkPlan("out", "best_effort"), pipe)  # type: ignore[arg-type]
        await sink.open()
        big = result(1, '[{"n":"' + "x" * 1_000_000 + '"}]')
        sending = asyncio.ensure_future(sink.deliver(big))
        await asyncio.sleep(0.05)
        is_stuck = not sending.done()
        sending.cancel()
        await sink.close()
        return is_stuck

    with os.fdopen(write_end, "wb", buffering=0) as pipe:
        assert asyncio.run(story(pipe))
        os.close(read_end)
