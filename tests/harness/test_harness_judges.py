"""The judges (folded results, oracle, histories) must catch what they are for."""

from typing import Any

import pytest

from tests.harness.history import TOPICS, History, seeds
from tests.harness.results import Delivered, canonical, difference, snapshot_state
from tests.reference.oracle import Oracle


def result(seq: int, key: Any = "a", rows: Any = None, **more: Any) -> dict[str, Any]:
    rows = [{"k": key, "v": seq}] if rows is None else rows
    op = "upsert" if rows else "delete"
    made = {
        "query": "j",
        "key": key,
        "rows": rows,
        "emit_at": "2026-01-01T00:00:00Z",
        "op": op,
        "seq": seq,
    }
    return made | {"id": f"id{seq}"} | more


def test_state_is_the_last_rows_of_each_key() -> None:
    told = Delivered().take([result(1), result(2, "b"), result(3), result(4, "b", [])])
    assert told.state("j") == {'"a"': ('{"k":"a","v":3}',)}
    assert told.ids() == ["id1", "id2", "id3", "id4"]


@pytest.mark.parametrize(
    ("results", "complaint"),
    [
        ([result(2), result(1, "b")], "seq did not rise"),
        ([result(1), result(2, rows=[{"v": 1.0, "k": "a"}])], "no-op"),
        ([result(1, rows=[])], "delete of a key that is not there"),
        ([result(1), result(2, rows=[]), result(3, rows=[])], "delete of a key that is not there"),
        ([result(1), result(1)], "delivered twice"),
        ([result(1, op="delete")], "do not fit the op"),
        ([result(1, emit_at="2026-01-01T00:00:00+01:00")], "not UTC"),
        ([{"query": "j"}], "result without"),
    ],
)
def test_broken_promises_are_named(results: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        Delivered().take(results)


def test_repeats_are_fine_only_with_the_same_body() -> None:
    told = Delivered(repeats=True).take([result(1), result(1)])
    with pytest.raises(AssertionError, match="one id, two bodies"):
        told.add(result(1, rows=[{"k": "a", "v": 9}]))


def test_webhook_order_is_per_key() -> None:
    told = Delivered(in_log_order=False).take([result(2), result(1, "b")])
    with pytest.raises(AssertionError, match="seq did not rise"):
        told.add(result(1, id="other"))


def test_a_late_subscriber_may_see_one_delete_of_an_unknown_key() -> None:
    told = Delivered(from_start=False).take([result(1, rows=[])])
    with pytest.raises(AssertionError, match="delete of a key"):
        told.add(result(2, rows=[]))


def test_what_follows_a_snapshot_must_be_newer_than_it() -> None:
    told = Delivered().begin([result(3), result(5, "b")]).take([result(6, rows=[])])
    assert told.state("j").keys() == {'"b"'}
    with pytest.raises(AssertionError, match="seq did not rise"):
        Delivered().begin([result(5)]).add(result(4, "b"))
    with pytest.raises(AssertionError, match="delivered twice"):
        Delivered().begin([result(5)]).add(result(5))


def test_canonical_form_is_json_value_equality() -> None:
    assert canonical({"b": 1.0, "a": [-0.0]}) == canonical({"a": [0], "b": 1})
    assert canonical("1") != canonical(1)
    assert canonical(2**53 + 1) != canonical(2**53)
    assert canonical(float(2**53 + 2)) == canonical(2**53 + 2)
    assert canonical(float(2**53 + 2)) != canonical(2**53 + 1)
    assert canonical(2.0**63) != canonical(2**63), "no integer of SQL's"


def test_a_snapshot_lists_a_key_once() -> None:
    assert snapshot_state([result(1), result(2, "b")])["j"].keys() == {'"a"', '"b"'}
    with pytest.raises(AssertionError, match="key twice"):
        snapshot_state([result(1), result(2)])


def test_difference_names_missing_extra_and_different_keys() -> None:
    text = difference({"a": ("1",), "b": ("1",)}, {"b": ("2",), "c": ("1",)})
    assert [line.split()[0] for line in text.splitlines()] == ["missing", "extra", "differs"]
    assert difference({}, {}) == ""


def test_the_oracle_runs_the_query_over_the_latest_messages() -> None:
    oracle = Oracle(TOPICS)
    oracle.put("orders", "o1", '{"user_id": 5}')
    oracle.put("orders", "o2", '{"user_id": "u"}')
    oracle.put("orders", "o2", None)
    oracle.put("users", "5", '{"name": "Ada"}')
    query = (
        "SELECT u.payload ->> '$.name' AS name, o.key FROM orders o"
        " JOIN users u ON o.payload ->> '$.user_id' = u.key"
    )
    assert oracle.groups(query) == {'"Ada"': ('{"key":"o1","name":"Ada"}',)}
    assert oracle.groups(query, "key").keys() == {'"o1"'}
    assert oracle.groups("SELECT key FROM orders WHERE 0") == {}
    oracle.close()


def test_a_history_repeats_with_its_seed_and_holds_the_hard_cases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = [History(7).batch(400) for _ in range(2)]
    assert batches[0] == batches[1] != History(8).batch(400)
    payloads = [m.payload for m in batches[0] if m.topic == "orders"]
    user_ids = [p["user_id"] for p in payloads if p and "user_id" in p]
    assert None in payloads and any(p and "user_id" not in p for p in payloads)
    assert {"5", 5} <= {u for u in user_ids if isinstance(u, str | int)}
    monkeypatch.setenv("LITEJOIN_TEST_SEED", "99")
    assert seeds(3) == [99]
