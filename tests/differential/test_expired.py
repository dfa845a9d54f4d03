"""Queries that compare with the clock, and whether their results follow it."""

import re
from dataclasses import replace
from pathlib import Path

from litejoin.plan.query.grammar import reads_clock
from litejoin.plan.tokens import tokenize
from litejoin.records import Row, RowKind
from tests.differential.pipeline import EnginePipeline, engine_pipeline

RECENT = {"j": "SELECT key FROM orders WHERE timestamp > unixepoch('now') - 3600"}


def pipeline_with(p: EnginePipeline, *, emit_expired: bool) -> None:
    p.close()
    p.joins = [replace(join, emit_expired=emit_expired) for join in p.joins]
    p.open()


def put_old(p: EnginePipeline, age_s: int) -> None:
    now_s = p.engine._host.execute("SELECT unixepoch('now')").get
    at_ms = (now_s - age_s) * 1000
    p.engine.apply(*p.write([Row(p.numbers["orders"], RowKind.UPSERT, at_ms, b"a", b"{}")]))


def make_clock_pass(p: EnginePipeline) -> None:
    """SQLite reads the real clock: instead of waiting an hour, let its window shrink."""
    (full,) = p.joins
    text = re.sub("3600", "1", full.query)
    p.engine._joins[0].full_handle = p.engine._evaluator.add_join(
        p.engine._joins[0].join_id, full.columns, 0, refresh_sql=text, full=True
    )
    p.clock.advance(1_000)


def test_a_result_that_has_grown_old_stays_until_its_row_changes(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, RECENT, "delta") as p:
        put_old(p, 60)
        make_clock_pass(p)
        assert p.engine.idle().wake_in_ms is None
        assert set(p.state()["j"]) == {'"a"'}


def test_with_emit_expired_it_ends_in_a_delete(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, RECENT, "delta") as p:
        pipeline_with(p, emit_expired=True)
        put_old(p, 60)
        assert set(p.state()["j"]) == {'"a"'}
        assert p.engine.idle().wake_in_ms == 1_000
        make_clock_pass(p)
        assert p.engine.idle().results == 1
        assert p.state() == {}


def test_only_queries_on_the_clock_follow_it() -> None:
    assert reads_clock(tokenize(RECENT["j"]))
    assert reads_clock(tokenize("SELECT CURRENT_DATE, key FROM t"))
    assert reads_clock(tokenize("SELECT date() FROM t"))
    assert not reads_clock(tokenize("SELECT date(timestamp, 'unixepoch'), 'now' FROM t"))
