"""Full re-evaluations that wait, are interrupted, or are left to the next start."""

import threading
from pathlib import Path

import apsw
import pytest

from litejoin.engine.deadlines import FULL_MS, FULL_PER_ROW_US, full_ms, rows_of
from litejoin.errors import StorageFullError
from litejoin.records import Row, RowKind
from tests.differential.pipeline import EnginePipeline, engine_pipeline

FULL = {"j": "SELECT 'all' AS k, count(*) AS n FROM orders"}
RUNAWAY = {
    "j": """WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)
        SELECT 'all' AS k, count(*) AS n FROM orders, c"""
}


def order(p: EnginePipeline, key: str) -> Row:
    return Row(p.numbers["orders"], RowKind.UPSERT, 1, key.encode(), b"{}")


def test_nothing_is_written_while_a_re_evaluation_waits(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, FULL) as p:
        p.engine.apply(*p.write([order(p, "a")]))
        p.engine._joins[0].not_before_ms = p.clock.monotonic_ms() + 500
        p.engine.apply(*p.write([order(p, "b")]))
        changes = p.engine.state.connection.total_changes()
        assert p.engine.idle().wake_in_ms == 500
        assert p.engine.state.connection.total_changes() == changes
        p.clock.advance(500)
        assert p.engine.idle().results == 1
        assert p.state()["j"]['"all"'] == ['{"k":"all","n":2}']


def no_room(*_: object) -> None:
    raise apsw.FullError("database or disk is full")


def test_a_re_evaluation_whose_commit_failed_is_done_again(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, FULL) as p:
        p.engine.apply(*p.write([order(p, "a")]))
        p.engine._joins[0].not_before_ms = p.clock.monotonic_ms() + 500
        p.engine.apply(*p.write([order(p, "b")]))
        p.clock.advance(500)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(p.engine.state, "commit", no_room)
            with pytest.raises(StorageFullError):
                p.engine.idle()
        assert p.engine.idle().results == 1
        assert p.state()["j"]['"all"'] == ['{"k":"all","n":2}']


def test_a_shutdown_does_not_wait_for_a_re_evaluation_and_the_next_start_makes_up_for_it(
    tmp_path: Path,
) -> None:
    with engine_pipeline(tmp_path / "d", 1, FULL) as p:
        p.engine.apply(*p.write([order(p, "a")]))
        p.engine.stop_full()
        p.engine.apply(*p.write([order(p, "b")]))
        assert p.state()["j"]['"all"'] == ['{"k":"all","n":1}']
    with engine_pipeline(tmp_path / "d", 1, FULL) as p:
        assert p.state()["j"]['"all"'] == ['{"k":"all","n":2}']


def test_a_running_re_evaluation_is_interrupted_by_a_shutdown(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, RUNAWAY) as p:
        p.clock.advance(1)

        def stop_when_running() -> None:
            while not p.engine._refresher.in_full:
                pause.wait(0.01)
            p.engine.stop_full()
            # The flag comes before the statement: once more when it surely runs.
            while p.engine._refresher.in_full and not pause.wait(0.05):
                p.engine.interrupt_if_overdue()

        pause = threading.Event()
        stopper = threading.Thread(target=stop_when_running)
        stopper.start()
        applied = p.engine.apply(*p.write([order(p, "a")]))
        stopper.join()
        assert applied.failures == ()
        assert p.engine.state.owed


def test_a_large_topic_has_more_time(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 2, FULL) as p:
        rows = [order(p, f"o{i}") for i in range(1_000)]
        p.engine.apply(*p.write(rows))
        p.engine.move_snapshot()
        topics = [p.numbers["orders"], p.numbers["users"]]
        assert (
            full_ms(rows_of(p.store.open_readers(), topics))
            == FULL_MS + 1_000 * FULL_PER_ROW_US // 1_000
        )
        assert full_ms(rows_of([], topics)) == FULL_MS


def test_a_re_evaluation_is_interrupted_when_its_time_is_over(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, RUNAWAY) as p:

        def pass_time() -> None:
            while not p.engine._refresher.in_full:
                pause.wait(0.01)
            assert not p.engine.interrupt_if_overdue()
            p.clock.advance(FULL_MS + 1)
            # The flag comes before the statement: once more when it surely runs.
            while p.engine._refresher.in_full and not pause.wait(0.05):
                p.engine.interrupt_if_overdue()

        pause = threading.Event()
        watch = threading.Thread(target=pass_time)
        watch.start()
        applied = p.engine.apply(*p.write([order(p, "a")]))
        watch.join()
        assert "interrupted" in applied.failures[0]
