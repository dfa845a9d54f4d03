"""The keeper commits in order and together, and survives a disk that is full for a while."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import apsw
import pytest

from litejoin.delivery import keeper as keeper_module
from litejoin.delivery.keeper import Keeper
from litejoin.delivery.ledger import Change, Enqueue, Entry, Ledger, Remove
from litejoin.errors import StorageIOError
from litejoin.records import Result, ResultOp
from tests.unit.delivery.harness import until


def enqueue(pos: int) -> Enqueue:
    result = Result(pos, "orders", f'"{pos}"', "[]", ResultOp.DELETE, 0, "p/e")
    return Enqueue(Entry("crm", result, 1, 0, None, ""))


class Failing(Ledger):
    """Fails the first commits with an error."""

    def __init__(self, path: Path, failures: list[apsw.Error], slow_s: float = 0.0) -> None:
        super().__init__(path, durable=False)
        self.failures = failures
        self.slow_s = slow_s
        self.commits: list[int] = []

    def commit(self, cursors: dict[str, int], changes: Sequence[Change]) -> list[tuple[str, str]]:  # type: ignore[override]
        time.sleep(self.slow_s)
        if self.failures:
            raise self.failures.pop(0)
        self.commits.append(len(changes))
        return super().commit(cursors, changes)


def test_many_outcomes_share_a_commit_and_nothing_is_lost_at_the_close(tmp_path: Path) -> None:
    ledger: list[Failing] = []

    def opened() -> Ledger:
        ledger.append(Failing(tmp_path / "dlq.db", []))
        return ledger[0]

    async def story() -> None:
        keeper = Keeper(opened, pytest.fail)
        assert await keeper.open("e") == {}
        for pos in range(1, 1_201):
            keeper.push(enqueue(pos))
            keeper.advance("crm", pos)
            if pos % 100 == 0:
                await asyncio.sleep(0)
        await keeper.close()
        assert keeper.durable == {"crm": 1_200}

    asyncio.run(story())
    assert len(ledger[0].commits) < 20
    again = Ledger(tmp_path / "dlq.db", durable=False)
    assert again.cursors("e") == {"crm": 1_200}
    assert again.sizes()["crm"].entries == 1_200
    again.close()


def test_large_results_are_committed_before_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "COMMIT_INTERVAL_S", 3_600.0)
    text = "x" * (keeper_module.CHARS_PER_OUTCOME * keeper_module.COMMIT_CHANGES // 4)

    async def story() -> None:
        ledger = Failing(tmp_path / "dlq.db", [])
        keeper = Keeper(lambda: ledger, pytest.fail)
        await keeper.open("e")
        for pos in range(1, 5):
            large = Result(pos, "orders", f'"{pos}"', text, ResultOp.UPSERT, 0, "p/e")
            keeper.push(Enqueue(Entry("crm", large, 1, 0, None, "")))
        await until(lambda: bool(ledger.commits))
        await keeper.close()
        assert ledger.commits == [4]

    asyncio.run(story())


async def in_a_commit(keeper: Keeper) -> asyncio.Task[None]:
    """Open it; one outcome is on its way to the disk. Returns who waits for it."""
    await keeper.open("e")
    keeper.push(enqueue(1))
    keeper.advance("crm", 1)
    caller = asyncio.create_task(keeper.flush())
    await asyncio.sleep(0.01)
    return caller


def test_a_commit_is_noted_though_its_caller_is_cancelled(tmp_path: Path) -> None:
    async def story() -> None:
        keeper = Keeper(partial(Failing, tmp_path / "dlq.db", [], 0.05), pytest.fail)
        (await in_a_commit(keeper)).cancel()
        await keeper.close()
        assert keeper.durable == {"crm": 1}
        assert keeper.sizes["crm"].entries == 1

    asyncio.run(story())


def test_changes_stay_when_their_commit_fails_after_its_caller_was_cancelled(
    tmp_path: Path,
) -> None:
    failures: list[apsw.Error] = [apsw.FullError("disk is full")]

    async def story() -> None:
        keeper = Keeper(partial(Failing, tmp_path / "dlq.db", failures, 0.05), pytest.fail)
        (await in_a_commit(keeper)).cancel()
        await keeper.close()

    asyncio.run(story())
    again = Ledger(tmp_path / "dlq.db", durable=False)
    assert again.cursors("e") == {"crm": 1}
    assert again.sizes()["crm"].entries == 1
    again.close()


def test_what_came_during_a_commit_that_failed_stands_behind_it(tmp_path: Path) -> None:
    failures: list[apsw.Error] = [apsw.FullError("disk is full")]

    async def story() -> None:
        keeper = Keeper(partial(Failing, tmp_path / "dlq.db", failures, 0.05), pytest.fail)
        failing = await in_a_commit(keeper)
        keeper.push(Remove("crm", enqueue(1).entry.result.id))
        keeper.advance("crm", 2)
        await failing
        await keeper.close()

    asyncio.run(story())
    again = Ledger(tmp_path / "dlq.db", durable=False)
    assert again.cursors("e") == {"crm": 2}
    assert again.sizes() == {}
    again.close()


def test_a_full_disk_holds_delivery_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper_module, "FULL_RETRY_S", 0.02)
    failures: list[apsw.Error] = [apsw.FullError("disk is full"), apsw.FullError("disk is full")]

    async def story() -> None:
        keeper = Keeper(partial(Failing, tmp_path / "dlq.db", failures), pytest.fail)
        await keeper.open("e")
        keeper.push(enqueue(1))
        keeper.advance("crm", 1)
        await keeper.flush()
        assert keeper.full
        assert keeper.durable == {}
        keeper.push(enqueue(2))
        keeper.advance("crm", 2)
        async with asyncio.timeout(5):
            await keeper.room()
        assert keeper.durable == {"crm": 2}
        assert keeper.sizes["crm"].entries == 2
        await keeper.close()

    asyncio.run(story())
    assert sum("cannot write dlq.db" in r.getMessage() for r in caplog.records) == 1


def test_an_io_error_is_fatal(tmp_path: Path) -> None:
    fatal: list[Exception] = []

    async def story() -> None:
        failures: list[apsw.Error] = [apsw.IOError("disk I/O error")]
        keeper = Keeper(partial(Failing, tmp_path / "dlq.db", failures), fatal.append)
        await keeper.open("e")
        keeper.advance("crm", 1)
        await keeper.flush()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await keeper.room()
        await keeper.close()

    asyncio.run(story())
    assert isinstance(fatal[0], StorageIOError)
    again = Ledger(tmp_path / "dlq.db", durable=False)
    assert again.cursors("e") == {}, "nothing was written after the error"
    again.close()


def test_dispatchers_wait_when_the_disk_does_not_keep_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "MAX_PENDING", 50)

    async def story() -> None:
        keeper = Keeper(partial(Failing, tmp_path / "dlq.db", [], 0.05), pytest.fail)
        await keeper.open("e")
        for pos in range(1, 51):
            keeper.advance("crm", pos)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await keeper.room()
        async with asyncio.timeout(5):
            await keeper.room()
        await keeper.close()

    asyncio.run(story())
