"""The diff state an api source finds at its next start is what its last flush wrote."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from litejoin.errors import ShardQuarantinedError, StartRefusedError, StorageError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.sources.base import SourceState
from litejoin.store.layout import Layout
from litejoin.store.manifest import Manifest, SourceEntry, manifest_of
from litejoin.store.sqlite import open_database
from litejoin.store.writer import ShardStore

Opener = Callable[..., ShardStore]


def state_row(source: int, key: str, payload: str, digest: bytes = b"h" * 16) -> Row:
    return Row(source, RowKind.STATE_UPSERT, 0, key.encode(), payload.encode(), digest)


def test_hashes_and_payloads_are_what_was_written(open_store: Opener) -> None:
    store = open_store(3)
    state: SourceState = store.source_state("shop")
    rows = [
        state_row(state.number, f"k{n}", f"{n}" if n else "", bytes([n]) * 16) for n in range(20)
    ]
    gone = Row(state.number, RowKind.STATE_DELETE, 0, b"k7")
    store.flush([pack_rows(rows), pack_rows([gone])])
    wanted = {f"k{n}".encode(): bytes([n]) * 16 for n in range(20) if n != 7}
    assert dict(asyncio.run(state.hashes())) == wanted  # type: ignore[arg-type]
    found = asyncio.run(state.payloads([b"k9", b"k7", b"k0", b"none"]))  # type: ignore[arg-type]
    assert found == [b"9", None, b"", None]


def test_two_sources_do_not_share_state(open_store: Opener) -> None:
    store = open_store()
    one, two = store.source_state("one"), store.source_state("two")
    store.flush([pack_rows([state_row(one.number, "k", "1")])])
    assert asyncio.run(two.hashes()) == []
    assert one.number != two.number


def test_the_first_poll_is_remembered(open_store: Opener) -> None:
    store = open_store()
    state = store.source_state("shop")
    assert state.is_new()
    asyncio.run(state.mark_started())
    assert not state.is_new()
    store.close()
    store = open_store()
    assert not store.source_state("shop").is_new()
    assert store.source_state("other").is_new()


def test_a_changed_state_row_is_never_handed_out(open_store: Opener, tmp_path: Path) -> None:
    """Its shard is out of service then; what it had looks new, and is refused."""
    store = open_store(1)
    state = store.source_state("shop")
    store.flush([pack_rows([state_row(state.number, "k", "{}")])])
    connection = open_database(Layout(tmp_path / "data").shard(0))
    connection.execute("UPDATE s1 SET payload = '[]'")
    connection.close()
    with pytest.raises(ShardQuarantinedError):
        asyncio.run(state.payloads([b"k"]))
    assert "state row of 'k'" in store.quarantine.reasons()[0]
    assert asyncio.run(state.hashes()) == []
    assert asyncio.run(state.payloads([b"k"])) == [None]
    assert store.flush([pack_rows([state_row(state.number, "k", "{}")])]).refused == (0,)


def test_the_records_of_another_topic_are_those_of_now_and_checked(open_store: Opener) -> None:
    store = open_store(2)
    state: SourceState = store.source_state("shop")
    assert asyncio.run(state.parents("teams")) == []  # type: ignore[arg-type]
    topic = store.create_topic("teams")
    rows = [Row(topic, RowKind.UPSERT, 5, f"k{n}".encode(), b'{"id":%d}' % n) for n in range(9)]
    again = Row(topic, RowKind.UPSERT, 6, b"k3", b'{"id":33}', b'{"$.id":[3,33]}')
    store.flush([pack_rows(rows)])
    store.flush([pack_rows([again, Row(topic, RowKind.DELETE, 7, b"k4")])])
    found = asyncio.run(state.parents("teams"))  # type: ignore[arg-type]
    assert sorted(found) == sorted(b'{"id":%d}' % n for n in (0, 1, 2, 33, 5, 6, 7, 8))
    for shard in range(2):
        with open_database(Layout(store.layout.root).shard(shard)) as connection:
            connection.execute(f"UPDATE t{topic} SET payload = '[]'")
    for _ in range(2):  # what is not known is not taken for deleted either
        with pytest.raises(ShardQuarantinedError):
            asyncio.run(state.parents("teams"))  # type: ignore[arg-type]
    assert "is not what was written" in store.quarantine.reasons()[0]


def test_of_a_thousand_keys_each_gets_its_own_payload(open_store: Opener) -> None:
    """Sizes from none to larger than a page, keys of any text, in any order, some twice."""
    store = open_store(4)
    state: SourceState = store.source_state("shop")
    texts = {f"k\u00e9{n}": "x" * (n * 7 % 9000) for n in range(1000)}
    store.flush([pack_rows([state_row(state.number, key, text) for key, text in texts.items()])])
    asked = [*reversed(texts), "none", "k\u00e9500", "\u2028"]
    found = asyncio.run(state.payloads([key.encode() for key in asked]))  # type: ignore[arg-type]
    assert found == [text.encode() if (text := texts.get(key)) is not None else None
                     for key in asked]  # fmt: skip
    assert asyncio.run(state.payloads([])) == []  # type: ignore[arg-type]


def test_a_read_leaves_no_transaction_open(open_store: Opener) -> None:
    store = open_store(1)
    state = store.source_state("shop")
    for text in ("1", "2"):
        store.flush([pack_rows([state_row(state.number, "k", text)])])
        assert asyncio.run(state.payloads([b"k"])) == [text.encode()]
    with pytest.raises(StorageError, match="s77"):
        store._state_readers.payloads(77, [b"k"])
    assert [c.in_transaction for c in store._state_readers._connections] == [False]


def catalogue(tmp_path: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(
        Layout(tmp_path / "data").manifest.read_text()
    )["sources"]
    return found


def test_each_topic_that_a_source_fills_has_a_state_of_its_own(
    open_store: Opener, tmp_path: Path
) -> None:
    store = open_store()
    first = store.source_state("shop", "orders")
    asyncio.run(first.mark_started())
    second = store.source_state("shop", "paid")
    assert (first.number, second.number, second.is_new()) == (1, 2, True)
    store.close()
    store = open_store()
    found = [store.source_state("shop", topic) for topic in ("paid", "orders", None)]
    assert [state.number for state in found] == [2, 1, 1]
    assert [state.is_new() for state in found] == [True, False, False]
    assert catalogue(tmp_path) == {
        "shop": {"number": 1, "started": True, "topic": "orders"},
        "shop/paid": {"number": 2, "started": False, "topic": "paid"},
    }


def test_the_state_of_a_directory_that_names_no_topic_is_that_of_the_one_it_has_now(
    open_store: Opener, tmp_path: Path
) -> None:
    store = open_store()
    asyncio.run(store.source_state("shop").mark_started())
    store.close()
    assert catalogue(tmp_path) == {"shop": {"number": 1, "started": True}}
    store = open_store()
    assert not store.source_state("shop", "orders").is_new()
    store.close()
    assert catalogue(tmp_path) == {"shop": {"number": 1, "started": True, "topic": "orders"}}
    assert open_store().source_state("shop", "paid").is_new()


def test_a_state_that_only_the_shards_name_is_found(tmp_path: Path) -> None:
    """As after a restore whose catalogue is older than its shards."""
    entries = {"shop": SourceEntry(1, True), "shop/paid": SourceEntry(2, True)}
    manifest = Manifest(1, "e" * 32, sources=entries)
    assert manifest.source("shop", "paid").number == 2
    assert manifest.source("shop", "orders").number == 1
    assert manifest.source("shop", "other").number == 3
    assert manifest.is_unsaved
    path = tmp_path / "manifest.json"
    manifest.save(path)
    assert not manifest.is_unsaved
    assert manifest_of(Layout(tmp_path), path.read_text()) == manifest


def test_a_topic_that_is_no_name_is_damage(tmp_path: Path) -> None:
    text = Manifest(1, "e" * 32, sources={"shop": SourceEntry(1, True, "t")}).text()
    with pytest.raises(StartRefusedError, match="damaged"):
        manifest_of(Layout(tmp_path), text.replace('"t"', "7"))
