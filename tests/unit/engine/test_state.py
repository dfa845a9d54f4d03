"""What trimming takes out of the results log: nothing that a cursor or a snapshot needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.engine import state as state_module
from litejoin.engine.state import StateDatabase
from litejoin.errors import StartRefusedError, StorageIOError
from litejoin.store.log import ResultLog

HEAD, CURRENT = 50, (1, 46, 47, 48, 49, 50)
"""Position 1 is the current result of a key that never changed again."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateDatabase]:
    monkeypatch.setattr(state_module, "LOG_WINDOW", 10)
    state = StateDatabase(tmp_path / "state.db", "normal")
    state.begin()
    join_id, _ = state.join_id("orders", "SELECT 1")
    for pos in range(1, HEAD + 1):
        key = "old" if pos == 1 else f"k{pos % 5}"
        state.connection.execute(
            "INSERT INTO log VALUES(?, ?, 1, 0, ?, '[]', NULL, NULL)", (pos, join_id, key)
        )
        state.connection.execute(
            "INSERT OR REPLACE INTO state VALUES(?, ?, 0, ?)", (join_id, key, pos)
        )
    state.commit(HEAD, 7, frozenset())
    yield state
    state.close()


def left(state: StateDatabase) -> list[int]:
    return [pos for (pos,) in state.connection.execute("SELECT pos FROM log ORDER BY pos")]


def stored_tail(state: StateDatabase, folder: Path) -> int:
    reader = ResultLog(folder / "state.db", "shop", "e")
    tail = reader.tail()
    reader.close()
    assert tail == state.tail
    return tail


@pytest.mark.parametrize(("low", "tail"), [(20, 20), (39, 39), (40, 40), (HEAD, 40), (1_000, 40)])
def test_entries_stay_until_every_cursor_and_the_window_of_resumes_are_past_them(
    state: StateDatabase, tmp_path: Path, low: int, tail: int
) -> None:
    assert not state.trim(low)
    assert left(state) == [1, *range(tail + 1, HEAD + 1)]
    assert stored_tail(state, tmp_path) == tail
    assert not state.trim(low), "nothing is left to do"


def test_a_current_result_is_never_trimmed(
    state: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "LOG_WINDOW", 0)
    state.trim(HEAD)
    assert left(state) == list(CURRENT)


def test_a_long_stretch_goes_in_pieces(
    state: StateDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "TRIM_CHUNK", 7)
    pieces = [state.trim(HEAD) for _ in range(6)]
    assert pieces == [True] * 5 + [False]
    assert left(state) == [1, *range(41, HEAD + 1)]
    assert stored_tail(state, tmp_path) == 40


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = StateDatabase(path, "normal")
    first.begin()
    first.commit(5, 3, frozenset({2, 1}), frozenset({1}))
    first.begin()
    first.connection.execute("UPDATE meta SET value = 9 WHERE name = 'head'")
    first.rollback()
    first.close()
    again = StateDatabase(path, "normal")
    assert (again.head, again.tail, again.applied) == (5, 0, 3)
    assert (again.owed, again.rebuilding) == ({1, 2}, {1})
    again.close()


def test_results_of_another_directory_are_refused(state: StateDatabase, tmp_path: Path) -> None:
    state.belong_to("mine", tmp_path)
    state.belong_to("mine", tmp_path)
    with pytest.raises(StartRefusedError, match="results of another data_dir"):
        state.belong_to("yours", tmp_path)


def test_groups_are_those_of_their_layout(state: StateDatabase) -> None:
    """Of another version of the program, say: they are made anew then."""
    state.keep_groups(1, "1:SELECT")
    assert state.has_groups(1, "1:SELECT")
    assert not state.has_groups(1, "2:SELECT")
    assert not state.has_groups(2, "1:SELECT")
    state.lose_groups(1)
    assert not state.has_groups(1, "1:SELECT")


def test_after_a_checkpoint_that_failed_nothing_more_is_written(state: StateDatabase) -> None:
    state._checkpointer.failure = StorageIOError("disk I/O error")
    with pytest.raises(StorageIOError):
        state.begin()
    assert not state.connection.in_transaction
