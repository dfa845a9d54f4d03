"""The embedded Litestream: hung, gone, left behind."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from litejoin.replica import control, process
from litejoin.replica.binary import require_litestream
from litejoin.replica.process import LitestreamProcess


@pytest.fixture
def made(tmp_path: Path) -> LitestreamProcess:
    path = tmp_path / "a.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE t(a)")
    connection.close()
    config, socket = tmp_path / "l.yml", tmp_path / "l.sock"
    config.write_text(
        "logging: {level: info, type: json, stderr: true}\n"
        f"socket: {{enabled: true, path: {socket}}}\n"
        f"dbs: [{{path: {path}, replica: {{url: 'file://{tmp_path}/r'}}}}]\n"
    )
    command = [str(require_litestream()), "replicate", "-config", str(config)]
    return LitestreamProcess(command, socket, config)


async def until(check: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if await check():
                    return
            except (OSError, ValueError):
                pass
            await asyncio.sleep(0.05)


async def answers(made: LitestreamProcess, tmp_path: Path) -> bool:
    async with asyncio.timeout(2):
        info = await control.ask(tmp_path / "l.sock", "/info")
    made.answered()
    return bool(info["pid"] == made.pid)


def test_one_that_hangs_is_killed_and_started_again(
    made: LitestreamProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "HUNG_S", 1.0)

    async def scenario() -> None:
        await made.start()
        await until(lambda: answers(made, tmp_path))
        first = made.pid
        assert first is not None and not made.is_hung()
        os.kill(first, signal.SIGSTOP)

        async def is_hung() -> bool:
            return made.is_hung()

        await until(is_hung)
        with pytest.raises(TimeoutError):
            await answers(made, tmp_path)
        made.kill()
        await until(lambda: answers(made, tmp_path))
        assert made.pid != first and made.starts == 2
        await made.close(10)
        assert made.pid is None

    asyncio.run(scenario())


def test_it_is_started_again_ever_more_slowly_and_says_why(
    made: LitestreamProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(process, "FIRST_PAUSE_S", 0.05)
    (tmp_path / "l.yml").write_text("nonsense: {")
    caplog.set_level(logging.DEBUG, "litejoin.replication")

    async def scenario() -> None:
        await made.start()

        async def tried() -> bool:
            return made.starts >= 3

        await until(tried)
        await made.close(10)

    asyncio.run(scenario())
    pauses = [r.args[1] for r in caplog.records if "started again in" in r.msg]  # type: ignore[index]
    assert pauses[:2] == [0.05, 0.1]
    assert any("litestream: " in r.getMessage() and r.levelno >= logging.WARNING
               for r in caplog.records)  # fmt: skip


def test_one_that_was_left_behind_ends_before_another_starts(
    made: LitestreamProcess, tmp_path: Path
) -> None:
    async def scenario() -> None:
        await made.start()
        await until(lambda: answers(made, tmp_path))
        left = made.pid
        made._stopping = True  # as if its LiteJoin were gone
        other = LitestreamProcess(made._command, tmp_path / "l.sock", tmp_path / "l.yml")
        await other.start()
        await until(lambda: answers(other, tmp_path))
        assert other.pid != left
        with pytest.raises(ProcessLookupError):
            os.kill(left or 0, 0)
        await other.close(10)

    asyncio.run(scenario())
