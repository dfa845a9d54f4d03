"""A look at a data directory: what it tells, what it refuses, and that it leaves no trace."""

import asyncio
from pathlib import Path

import pytest

from litejoin.engine.state import StateDatabase
from litejoin.errors import StartRefusedError
from litejoin.store.peek import peek
from litejoin.store.writer import ShardStore


def made(root: Path) -> Path:
    """A data directory with two topics, of which one has a time index, and a join's state."""
    store = ShardStore.open(
        root, pipeline="shop", shard_count=2, synchronous="normal",
        has_time_index=lambda topic: topic == "Orders",
    )  # fmt: skip
    store.create_topic("Orders")
    store.create_topic("users")
    state = StateDatabase(store.layout.state, "normal")
    state.begin()
    state.join_id("j", "the query")
    state.commit(0, 0, frozenset())
    state.close()
    store.close()
    return root


@pytest.mark.parametrize("damage", ["text", "folder"])
def test_a_state_file_that_is_none_refuses_the_start(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.db"
    if damage == "text":
        path.write_bytes(b"no database " * 1_000)
    else:
        path.mkdir()
    with pytest.raises(StartRefusedError, match="state.db cannot be used") as refused:
        StateDatabase(path, "normal")
    assert "backup" in refused.value.hint


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*"))


def test_it_tells_topics_indexes_and_what_results_were_made_with(tmp_path: Path) -> None:
    root = made(tmp_path / "data")
    before = names(root)
    found = peek(root, 2, root / "dlq.db")
    assert names(root) == before
    assert found.topics == ("Orders", "users")
    assert found.timed_topics == {"orders"}
    assert found.joins == {"j": "the query"}
    assert (found.sinks, found.with_results, found.is_new) == (None, frozenset(), False)


def test_it_tells_which_topics_a_source_has_filled(tmp_path: Path) -> None:
    store = ShardStore.open(tmp_path / "d", pipeline="p", shard_count=1, synchronous="normal")
    for name, topic in (("a", "t"), ("a", "u"), ("old", None)):
        asyncio.run(store.source_state(name, topic).mark_started())
    store.source_state("a", "never")
    store.source_state("new", "t")
    store.close()
    found = peek(tmp_path / "d", 1, tmp_path / "dlq.db")
    assert (found.sources, found.filled) == (("a", "old"), {"a": ("t", "u")})


def test_a_directory_that_is_not_there_is_new_and_stays_away(tmp_path: Path) -> None:
    found = peek(tmp_path / "data", 2, tmp_path / "data/dlq.db")
    assert found.is_new
    assert names(tmp_path) == []


def test_another_shard_count_is_refused_as_at_a_start(tmp_path: Path) -> None:
    root = made(tmp_path / "data")
    with pytest.raises(StartRefusedError, match="was made with shard_count 2, not 3"):
        peek(root, 3, root / "dlq.db")


@pytest.mark.parametrize("file", ["state.db", "shard-0000.db", "dlq.db"])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, file: str) -> None:
    root = made(tmp_path / "data")
    (root / file).write_bytes(b"not a database" * 100)
    with pytest.raises(StartRefusedError, match=file):
        peek(root, 2, root / "dlq.db")


def test_a_path_with_signs_of_a_uri_is_a_path(tmp_path: Path) -> None:
    root = made(tmp_path / "a?mode=rwc#b %41")
    assert peek(root, 2, root / "dlq.db").joins == {"j": "the query"}
    assert names(tmp_path)[0] == root.name
