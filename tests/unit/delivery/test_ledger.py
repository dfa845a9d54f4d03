"""dlq.db: what is stored comes back whole, sizes are right whoever writes, hands can change it."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from litejoin.delivery import dlq
from litejoin.delivery.dlq import Selection
from litejoin.delivery.ledger import (
    DUE_CHARS,
    Change,
    Enqueue,
    Entry,
    Ledger,
    Remove,
    Reschedule,
    Supersede,
)
from litejoin.errors import StartRefusedError
from litejoin.records import Result, ResultOp


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "dlq.db", durable=True)
    yield ledger
    ledger.close()


def result(pos: int, key: str = '"a"', rows: str = '[{"n":1}]', join: str = "orders") -> Result:
    return Result(pos, join, key, rows, ResultOp.UPSERT, 1_700_000_000_123, "shop/epoch")


def entry(pos: int, key: str = '"a"', due_ms: int | None = 100, sink: str = "crm") -> Entry:
    return Entry(sink, result(pos, key), 1, 1_000 * pos, due_ms, "HTTP 500")


def test_an_entry_comes_back_with_its_body_byte_for_byte(ledger: Ledger) -> None:
    odd = replace(
        entry(1, '"z\\u00fcrich \\"1\\""'),
        result=result(1, '"ü"', '[{"a":1e400,\n "b":"\\u0000"}]'),
    )
    ledger.commit({"crm": 1}, [Enqueue(odd)])
    found, after = ledger.due("crm", 100, 10)
    assert found == [odd]
    assert found[0].result.body() == odd.result.body()
    assert after is None
    assert dlq.body(ledger, Selection(ids=(odd.result.id,))) == odd.result.body()


def test_only_due_entries_of_the_sink_come_one_a_key_oldest_first(ledger: Ledger) -> None:
    ledger.commit({}, [
        Enqueue(entry(4, '"a"')), Enqueue(entry(2, '"a"')), Enqueue(entry(3, '"b"', 900)),
        Enqueue(entry(5, '"c"', None)), Enqueue(entry(6, '"d"', sink="other")),
    ])  # fmt: skip
    found, after = ledger.due("crm", 100, 10)
    assert [e.result.pos for e in found] == [2]
    assert after == 900
    assert ledger.due("crm", 99, 10) == ([], 100)


def test_large_entries_fall_due_a_few_at_a_time(ledger: Ledger) -> None:
    text = "x" * (DUE_CHARS // 3)
    large = [replace(entry(n, f'"{n}"'), result=result(n, f'"{n}"', text)) for n in range(1, 9)]
    ledger.commit({}, [Enqueue(each) for each in large])
    assert [e.result.pos for e in ledger.due("crm", 100, 64)[0]] == [1, 2, 3, 4]
    ledger.commit({}, [Remove("crm", each.result.id) for each in large[:4]])
    assert [e.result.pos for e in ledger.due("crm", 100, 64)[0]] == [5, 6, 7, 8]


def test_an_entry_that_is_enqueued_twice_keeps_its_attempts(ledger: Ledger) -> None:
    ledger.commit({}, [Enqueue(entry(1))])
    ledger.commit({}, [Reschedule(replace(entry(1), attempts=7, next_retry_at_ms=500))])
    ledger.commit({}, [Enqueue(entry(1))])
    found, _ = ledger.due("crm", 500, 10)
    assert [(e.attempts, e.next_retry_at_ms) for e in found] == [(7, 500)]


def test_a_window_never_supersedes_another_window_of_its_key(ledger: Ledger) -> None:
    first, second = (
        structs.replace(result(pos), start_ms=pos * 60_000, end_ms=pos * 60_000 + 60_000)
        for pos in (1, 2)
    )
    ledger.commit({}, [Enqueue(replace(entry(1), result=first))])
    assert ledger.commit({}, [Supersede("crm", second)]) == []
    assert [e.result for e in ledger.due("crm", 100, 9)[0]] == [first]
    update = structs.replace(first, pos=3)
    assert ledger.commit({}, [Supersede("crm", update)]) == [("crm", first.id)]


def test_a_delivered_result_supersedes_what_is_not_newer(ledger: Ledger) -> None:
    old_epoch = replace(entry(99), result=structs.replace(result(99), pipeline="shop/older"))
    changes: list[Change] = [Enqueue(entry(n)) for n in (1, 2, 3)]
    changes += [Enqueue(entry(1, '"b"')), Enqueue(entry(1, sink="other")), Enqueue(old_epoch)]
    ledger.commit({}, changes)
    gone = ledger.commit({}, [Supersede("crm", result(2))])
    assert gone == [("crm", result(1).id), ("crm", old_epoch.result.id)]
    left = [(row["sink"], row["key"], row["id"]) for row in dlq.entries(ledger, Selection())]
    assert left == [
        ("crm", "a", result(3).id), ("crm", "b", result(1, '"b"').id), ("other", "a", result(1).id)
    ]  # fmt: skip


def test_a_result_supersedes_nothing_of_another_join(ledger: Ledger) -> None:
    ledger.commit({}, [Enqueue(entry(1))])
    assert ledger.commit({}, [Supersede("crm", result(2, join="users"))]) == []
    assert [e.result.pos for e in ledger.due("crm", 100, 9)[0]] == [1]


def test_a_result_that_may_have_been_taken_stays_itself(ledger: Ledger) -> None:
    ledger.commit({}, [Enqueue(entry(1)), Enqueue(entry(2))])
    gone = ledger.commit({}, [Supersede("crm", result(2), itself=False)])
    assert gone == [("crm", result(1).id)]
    assert [e.result.pos for e in ledger.due("crm", 100, 9)[0]] == [2]


def test_sizes_are_right_after_any_history(ledger: Ledger) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for pos in range(1, 300):
        made = entry(pos, f'"{rng.randrange(9)}"', sink=rng.choice(("a", "b")))
        changes: list[Change] = [Enqueue(made)]
        if rng.random() < 0.3:
            changes.append(Remove(made.sink, made.result.id))
        if rng.random() < 0.2:
            changes.append(Supersede("a", result(pos, f'"{rng.randrange(9)}"')))
        ledger.commit({}, changes)
        if rng.random() < 0.05:
            ledger.expire(rng.randrange(1_000 * pos))
        if rng.random() < 0.05:
            dlq.purge(ledger, Selection(sink="b", key=str(rng.randrange(9))))
    counted = dict(ledger.db.execute("SELECT sink, count(*) FROM dlq GROUP BY sink").fetchall())
    assert {sink: size.entries for sink, size in ledger.sizes().items()} == counted
    dlq.purge(ledger, Selection())
    assert ledger.sizes() == {}
    assert ledger.db.execute("SELECT sum(bytes) FROM sizes").fetchone() == (0,)


def test_cursors_of_another_epoch_are_forgotten_entries_are_not(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "dlq.db", durable=False)
    assert first.cursors("one") == {}
    first.commit({"crm": 7}, [Enqueue(entry(1))])
    first.close()
    second = Ledger(tmp_path / "dlq.db", durable=False)
    assert second.cursors("one") == {"crm": 7}
    assert second.cursors("two") == {}
    assert second.sizes()["crm"].entries == 1
    second.close()
    assert not (tmp_path / "dlq.db-wal").exists()


def test_a_foreign_format_is_refused(tmp_path: Path, ledger: Ledger) -> None:
    ledger.db.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
    with pytest.raises(StartRefusedError, match="format 99"):
        Ledger(tmp_path / "dlq.db", durable=False)


def test_retry_times_are_brought_back_within_reach(ledger: Ledger) -> None:
    ledger.commit({}, [Enqueue(entry(1, '"a"', 10_000)), Enqueue(entry(2, '"b"', 50))])
    ledger.clamp_retries(700)
    assert ledger.due("crm", 700, 10)[1] is None
    assert len(ledger.due("crm", 700, 10)[0]) == 2


def test_entries_are_listed_as_documented(ledger: Ledger) -> None:
    ledger.commit({}, [Enqueue(entry(1)), Enqueue(entry(2, "5", None))])
    listed = list(dlq.entries(ledger, Selection()))
    assert listed == [
        {"id": result(1).id, "sink": "crm", "join": "orders", "key": "a", "attempts": 1,
         "next_retry_at": "1970-01-01T00:00:00.100Z", "created_at": "1970-01-01T00:00:01.000Z",
         "error": "HTTP 500"},
        {"id": result(2, "5").id, "sink": "crm", "join": "orders", "key": 5, "attempts": 1,
         "next_retry_at": None, "created_at": "1970-01-01T00:00:02.000Z", "error": "HTTP 500"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "positions"),
    [(Selection(), [1, 2, 3, 4]), (Selection(sink="other"), [4]), (Selection(join="none"), []),
     (Selection(key="5"), [2, 3]), (Selection(key="a"), [1, 4]),
     (Selection(sink="crm", key="a"), [1]),
     (Selection(created_before_ms=2_001), [1, 2]),
     (Selection(ids=(result(1).id,), sink="crm"), [1]),
     (Selection(ids=(result(1).id, result(3, '"5"').id, "none")), [1, 3])],
)  # fmt: skip
def test_selections_pick_what_they_say(
    ledger: Ledger, selection: Selection, positions: list[int]
) -> None:
    ledger.commit({}, [
        Enqueue(entry(1)), Enqueue(entry(2, "5", None)), Enqueue(entry(3, '"5"')),
        Enqueue(entry(4, sink="other")),
    ])  # fmt: skip
    ids = {result(1).id: 1, result(2, "5").id: 2, result(3, '"5"').id: 3, result(4).id: 4}
    assert [ids[row["id"]] for row in dlq.entries(ledger, selection)] == positions
    assert dlq.retry(ledger, selection, 5_000) == len(positions)
    asked = {sink for sink in ("crm", "other") if ledger.asked_to_go_on_ms(sink) == 5_000}
    whole = {Selection(): {"crm", "other"}, Selection(sink="other"): {"other"}}
    assert asked == whole.get(selection, set())
    due = ledger.db.execute(
        "SELECT pos FROM dlq WHERE next_retry_at_ms = 0 ORDER BY pos"
    ).fetchall()
    assert [row[0] for row in due] == positions
    assert sorted(ids[i] for _, i in dlq.purge(ledger, selection)) == positions
    assert len(list(dlq.entries(ledger, Selection()))) == 4 - len(positions)


def test_a_long_queue_is_listed_in_pages(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlq, "PAGE", 7)
    ledger.commit({}, [Enqueue(entry(n)) for n in range(1, 24)])
    assert len(list(dlq.entries(ledger, Selection()))) == 23


def test_a_damaged_entry_says_so_and_is_not_sent(ledger: Ledger) -> None:
    ledger.commit({}, [Enqueue(entry(1)), Enqueue(entry(2, '"b"'))])
    ledger.db.execute("""UPDATE dlq SET rows = '[{"n":2}]' WHERE pos = 1""")
    assert [e.result.pos for e in ledger.due("crm", 100, 10)[0]] == [2]
    first = next(dlq.entries(ledger, Selection()))
    assert first["error"].startswith("damaged")
    assert first["next_retry_at"] is None
    assert dlq.body(ledger, Selection()) is None
