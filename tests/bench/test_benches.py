"""Benchmarks run, and find the results right before and after they time them; no time is judged.

Each runs on a fraction of its load. What needs a peer's environment, a broker or minutes is run by
hand.
"""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench import report, run
from bench.e2e import latency, pipeline, storage, storage_integrity, storage_pushes
from bench.micro import http_load, joins, record_diff, route
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually


def figures_of(
    bench: ModuleType, name: str, arguments: list[str], out: Path, patch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What a benchmark reports; its file goes to `out`, not over the last measurement."""
    patch.setattr(report, "OUT", out)
    bench.main(arguments)
    document = json.loads((out / f"{name}.json").read_text())
    assert document["commit"]
    assert document["sqlite"]
    found: dict[str, Any] = document["figures"]
    return found


def test_every_lane_of_make_bench_is_a_program() -> None:
    for module in run.BENCHES.values():
        assert callable(importlib.import_module(module).main)
    rows = [line for line in (report.ROOT / "bench" / "README.md").read_text().splitlines()]
    told = {row.split("`")[1] for row in rows if row.startswith("| `")}
    assert told == set(run.BENCHES)


def test_the_router_is_timed_beside_its_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = figures_of(route, "route", ["--keys", "2000", "--rounds", "1"], tmp_path, monkeypatch)
    for each in found["key"].values():
        assert each["native_ns"] > 0
        assert each["python_ns"] > 0
        assert each["fullest_shard"] < 1.5


def test_the_diff_is_timed_on_results_that_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--records", "1000", "--rounds", "1"]
    found = figures_of(record_diff, "diff", arguments, tmp_path, monkeypatch)
    assert set(found["pairs_us_per_record"]) == {"same_bytes", "other_bytes", "one_change"}
    assert all(each["native_us"] > 0 for each in found["polls_us_per_record"].values())


def test_wrong_diffs_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [(b'{"a":1}', b'{"a":1.0}')]
    record_diff.check_pairs(same, equal=True)
    with pytest.raises(AssertionError):
        record_diff.check_pairs(same, equal=False)
    monkeypatch.setattr(record_diff.Native, "poll", lambda self, body: (0, 0, 0))
    with pytest.raises(AssertionError, match="first"):
        record_diff.measure_polls(100, 1)


def test_joins_are_timed_at_two_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "MANY_ROWS", 2_000)
    found = figures_of(
        joins, "joins", ["--sizes", "500,2000", "--joins", "inner"], tmp_path, monkeypatch
    )
    assert found["inner"]["strategy"] == "native"
    assert found["inner"]["orders_2000"]["full_ms"] > 0
    assert found["inner"]["growth"]["one_us"] > 0


def test_the_pipeline_is_timed_beside_its_yardsticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = figures_of(pipeline, "pipeline", ["1", "--share", "100"], tmp_path, monkeypatch)
    assert found["litejoin"]["results"] > 0
    assert found["rate_vs_c"] > 0
    assert found["rate_vs_hand"] > 0


def test_wrong_results_are_no_figures(launch: Launcher) -> None:
    at = Listener()
    query = (
        "SELECT o.key AS order_id, o.payload ->> 'amount' AS amount, u.payload ->> 'name' AS name"
    )
    query += " FROM orders o JOIN users u ON u.key = o.payload ->> 'user_id'"
    launch(push_config(at, {"j": query}, topics=["orders", "users"]), at.health)
    user = message("users", "u", {"name": "Ann"})
    order = message("orders", "o", {"user_id": "u", "amount": 1})
    with IngestClient(at.url) as client:
        client.send([user, order])

    def check(*messages: dict[str, Any]) -> None:
        expected = pipeline.expected_of([json.dumps(each).encode() for each in messages])
        pipeline.check_results(at.port, expected)

    eventually(lambda: snapshot(at.url, "j").results != [])
    check(user, order)
    check(user, order, order | {"payload": {"user_id": "u", "amount": 2}})  # either may be last
    with pytest.raises(RuntimeError, match="1 results, not the 2"):
        check(user, order, order | {"key": "o2"})
    with pytest.raises(RuntimeError, match="no message makes"):
        check(user, order | {"payload": {"user_id": "u", "amount": 2}})


def test_the_latency_of_orders_and_users_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = figures_of(latency, "latency", ["30", "--sizes", "200"], tmp_path, monkeypatch)
    for change in ("order", "user"):
        times = found["orders_200"][change]
        assert 0 < times["ack_p50_ms"] <= times["event_p50_ms"] <= times["event_p99_ms"]


def test_http_load_is_timed_beside_uvicorn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    http_load.main(["--seconds", "0.1", "--rounds", "1", "--out", str(tmp_path / "http.json")])
    assert json.loads(capsys.readouterr().out)["servers"]


def test_a_cost_of_moving_rows_is_only_told_when_rows_moved(tmp_path: Path) -> None:
    found = storage_pushes.pushes(
        tmp_path, storage.fill, rounds=1, rows=20_000, seconds=0.5, share=100
    )
    assert found["rows_deleted_meanwhile"][0] + found["rows_left"][0] <= 20_000
    assert found["rows_per_s_beside"][0] > 0


def test_what_guards_against_damage_is_timed_on_stores_that_hold_the_same(tmp_path: Path) -> None:
    batches = storage_integrity.make_batches("random", 8_000, storage.payload)
    found = storage_integrity.compare(tmp_path, "normal", batches)
    assert {len(spent) for spent in found.values()} == {2}
    assert set(found) == set(storage_integrity.KINDS)


def test_parts_of_the_storage_bench_go_on_where_others_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "ASKED", 2)
    monkeypatch.setattr(storage, "WARMING", 2)
    kept = ["--rows", "3000", "--keep", str(tmp_path / "kept"), "--folder", str(tmp_path)]
    filled = figures_of(storage, "storage", [*kept, "--parts", "fill"], tmp_path, monkeypatch)
    assert filled["rows_per_s_filled"] > 0
    found = figures_of(
        storage, "storage", [*kept, "--parts", "start,compaction,query"], tmp_path, monkeypatch
    )
    assert found["query_by_key"]["archived_rows"] == 3000
    assert found["compaction"]["rows_per_core_s"] > 0
