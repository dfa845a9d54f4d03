"""What a sink was told, folded into a state, with every promise about single results checked on the
way.

`Delivered` takes result objects in order of arrival and keeps, per join and key, the last rows.
State is compared in canonical form: JSON values, so `1` equals `1.0` and the order of columns does
not matter.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

State = dict[str, tuple[str, ...]]
"""Canonical key -> its rows in canonical form, sorted unless the query orders them."""


def canonical(value: Any) -> str:
    """JSON text that is equal for equal JSON values; SQLite's NaN cannot occur, infinities do not
    travel.
    """
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    # The range in which SQL, and so the product (_ext/whole.h), compares a real with an integer.
    if isinstance(value, float) and value.is_integer() and -(2.0**63) <= value < 2.0**63:
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def canonical_rows(rows: Iterable[Any], *, ordered: bool = False) -> tuple[str, ...]:
    texts = [canonical(row) for row in rows]
    return tuple(texts if ordered else sorted(texts))


class Delivered:
    """The receiving end of one sink.

    `in_log_order`: results of one join come in the order of `seq` (SSE, stdout, file); else only
    results of one key do (webhooks run several in flight). `repeats`: a result may come again, with
    the same id and the same bytes (at_least_once, and what recovery re-delivers).
    """

    def __init__(
        self, *, in_log_order: bool = True, repeats: bool = False, from_start: bool = True
    ) -> None:
        self.in_log_order = in_log_order
        self.repeats = repeats
        self.from_start = from_start
        self.count: Counter[str] = Counter()
        self._last_seq: dict[tuple[str, str], int] = {}
        self._rows: dict[str, dict[str, list[Any]]] = {}
        self._bodies: dict[str, str] = {}
        self._known_deleted: set[tuple[str, str]] = set()

    def take(self, results: Iterable[Mapping[str, Any]]) -> "Delivered":
        for result in results:
            self.add(result)
        return self

    def begin(self, results: Iterable[Mapping[str, Any]]) -> "Delivered":
        """Start from a snapshot (or a replay): what follows must be newer than all of it."""
        for result in results:
            join, key = result["query"], canonical(result["key"])
            self._rows.setdefault(join, {})[key] = list(result["rows"])
            for lane in ((join, ""), (join, key)):
                self._last_seq[lane] = max(self._last_seq.get(lane, -1), result["seq"])
            self._bodies[result["id"]] = json.dumps(result, sort_keys=True)
        return self

    def add(self, result: Mapping[str, Any]) -> None:
        """Fold one result in. Raises AssertionError naming the promise it breaks."""
        check_shape(result)
        join, key, seq = result["query"], canonical(result["key"]), result["seq"]
        body = json.dumps(result, sort_keys=True)
        if result["id"] in self._bodies:
            assert self.repeats, f"delivered twice: {body}"
            assert self._bodies[result["id"]] == body, (
                f"one id, two bodies:\n{self._bodies[result['id']]}\n{body}"
            )
            return
        self._bodies[result["id"]] = body
        self._check_order(join, key, seq, body)
        self._check_change(join, key, result, body)
        self.count[join] += 1

    def _check_order(self, join: str, key: str, seq: int, body: str) -> None:
        lane = (join, "" if self.in_log_order else key)
        assert seq > self._last_seq.get(lane, -1), (
            f"seq did not rise after {self._last_seq[lane]}: {body}"
        )
        self._last_seq[lane] = seq

    def _check_change(self, join: str, key: str, result: Mapping[str, Any], body: str) -> None:
        state = self._rows.setdefault(join, {})
        before = state.get(key)
        if result["op"] == "delete":
            if self.from_start or (join, key) in self._known_deleted:
                assert before is not None, f"delete of a key that is not there: {body}"
            state.pop(key, None)
            self._known_deleted.add((join, key))
            return
        changed = before is None or canonical(before) != canonical(result["rows"])
        assert changed, f"no-op emitted: {body}"
        state[key] = list(result["rows"])
        self._known_deleted.discard((join, key))

    def state(self, join: str, *, ordered: bool = False) -> State:
        """The keys that are not deleted, with their last rows."""
        return {
            k: canonical_rows(rows, ordered=ordered) for k, rows in self._rows.get(join, {}).items()
        }

    def ids(self) -> list[str]:
        """Ids in order of first arrival."""
        return list(self._bodies)


def check_shape(result: Mapping[str, Any]) -> None:
    """The documented fields of a result object, with their types."""
    missing = {"query", "key", "rows", "emit_at", "op", "seq", "id"} - set(result)
    assert not missing, f"result without {sorted(missing)}: {result}"
    assert result["op"] in ("upsert", "delete"), result
    assert isinstance(result["seq"], int) and isinstance(result["id"], str) and result["id"], result
    assert isinstance(result["rows"], list), result
    assert bool(result["rows"]) == (result["op"] == "upsert"), f"rows do not fit the op: {result}"
    moment = datetime.fromisoformat(str(result["emit_at"]).replace("Z", "+00:00"))
    assert moment.utcoffset() is not None and not moment.utcoffset(), (
        f"emit_at is not UTC: {result}"
    )


def snapshot_state(
    results: Iterable[Mapping[str, Any]], *, ordered: bool = False
) -> dict[str, State]:
    """The state that /snapshot (or a replay) shows, per join; fails when a key is listed twice."""
    states: dict[str, State] = {}
    for result in results:
        check_shape(result)
        keys = states.setdefault(result["query"], {})
        key = canonical(result["key"])
        assert key not in keys, f"key twice in one snapshot: {result}"
        assert result["op"] == "upsert", f"deleted key in a snapshot: {result}"
        keys[key] = canonical_rows(result["rows"], ordered=ordered)
    return states


def difference(got: State, want: State, limit: int = 8) -> str:
    """Empty when equal; else what is missing, extra and different, shortened."""
    lines = [f"missing {k} -> {want[k]}" for k in want if k not in got]
    lines += [f"extra   {k} -> {got[k]}" for k in got if k not in want]
    lines += [
        f"differs {k}: got {got[k]}, want {want[k]}" for k in want if k in got and got[k] != want[k]
    ]
    more = [f"... and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join(lines[:limit] + more)
