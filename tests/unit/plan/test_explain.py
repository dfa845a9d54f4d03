"""The three forms of a plan: complete, stable, within the page, without secrets."""

import json
from dataclasses import replace

import pytest

from litejoin.plan.explain import FORMS, explain
from litejoin.plan.layout import PAGE_WIDTH
from litejoin.plan.nodes import Secret
from litejoin.plan.nodes_api import TokenAuth, WatermarkPlan
from tests.unit.plan.plans import (
    ARCHIVE,
    BUCKET_SECRET,
    HEADER_SECRET,
    ORDER_USER,
    ORDERS_API,
    PASSWORD,
    TOKEN_SECRET,
    URL_SECRET,
    shop_plan,
)

WARNING = {
    "file": "shop.yaml",
    "line": 31,
    "column": 9,
    "code": "LJ241",
    "level": "warning",
    "message": f"something long that mentions {URL_SECRET} " + "and goes on " * 10,
    "hint": "drop it",
    "pointer": "/joins/1/query",
}

TEXT = """\
shop   config 3f9ac2d01b2c   8 shards in ./data   at_least_once, synchronous full

Sources
  orders-api   api     orders      every 30s, 1 to 5 pages (cursor)  ->  2 to 10 requests/min of 60
                                   allowed (3 %)
    GET https://api.example.com/orders?limit=100&appid=${OWM_KEY}
    compared by field; keeps what is gone
  push         http    any topic   POST http://0.0.0.0:8080/ingest
  bus          kafka   users       b:9092, group lj

Topics   (key, payload, timestamp, timestamp_ms, op, changes; 8 shards each)
  orders   retention 24h   lj:1 key map on $.user_id (order-user)
  users    kept for good   no key map needed

Joins
  order-user   key order_id   native   -> hook, live
    orders o   native   by key                     keys from changed rows of o
    users u    native   through orders.$.user_id
    results of those keys from o by key, then u by lj:1, then sort for ORDER BY; no topic is scanned

  top-orders   key key        full     -> live
    reads orders anew on every change
    not incremental: shop.yaml:31:9: LIMIT without a key
      rewrite: drop LIMIT

Windows
  per-hour   sliding   orders   size 1h, slide 1m, lateness 0s   -> live
    fires every 1m (1 a minute); a message is in 60 windows at once
    holds a message for 1h at most (size + lateness)
    time of ingestion; late messages are dropped
    reads its messages whenever it fires

Sinks
  hook      http       at_least_once, 8 in flight   POST http://localhost:9000/hook
  live      sse        at_least_once                http://127.0.0.1:9100/subscribe
  file      sqlite     at_least_once                ./out.db, a table per join
  console   stdout     best_effort                  standard output
  bus-out   kafka      at_least_once                b:9092, topic joined
  pg        postgres   at_least_once                PostgreSQL, a table per join
  own       custom     best_effort                  chat of an installed package

Archive
  rows of orders older than their retention go to Parquet files in ./data/archive every 1m: zstd, up
    to 128 MB each, kept here 168h
  copied to s3 bucket cold/shop at http://minio:9000 and kept there; queries fetch files back, up to
    1.0 GB on disk

Replication
  s3://b/p   embedded, every 1s, kept 72h

Not supported yet (run refuses)
  windows   shop.yaml:40:3

Estimate
  memory           48 MB
    process        40 MB   without data
    shards          8 MB   8 shards x 1 MB
  disk            2.6 GB
    pushed rows   2.6 GB   1 row x 250 B
  assumed: 10 new keys/s; 250 B a row
"""


def test_the_text_form_tells_everything() -> None:
    assert explain(shop_plan(), "text") == TEXT


def test_the_text_form_fits_the_page() -> None:
    page = explain(shop_plan(), "text", [WARNING])
    assert max(len(line) for line in page.splitlines()) <= PAGE_WIDTH
    assert "  shop.yaml:31:9: LJ241 warning: something long" in page
    assert " (drop it)" in " ".join(page.split())


def test_the_text_form_can_show_the_exact_statements() -> None:
    page = explain(shop_plan(), "text", with_sql=True)
    assert (
        """
    -- keys that changed rows of orders o touch
    SELECT 1
    --   SCAN o VIRTUAL TABLE INDEX 2:delta

    -- results of those keys
    SELECT 2
    --   SCAN o VIRTUAL TABLE INDEX 1:key
    --   SCAN u VIRTUAL TABLE INDEX 16:index lj:1
    --   USE TEMP B-TREE FOR ORDER BY
"""
        in page
    )
    assert "    -- the query, for every change\n    SELECT 1\n" in page


def test_a_join_that_follows_the_clock_is_told_to_run_in_full() -> None:
    plan = replace(shop_plan(), joins=(replace(ORDER_USER, emit_expired=True),))
    assert "    follows the clock: run in full about once a second\n" in explain(plan, "text")
    assert json.loads(explain(plan, "json"))["joins"][0]["emit_expired"] is True


def test_an_archive_without_a_bucket_or_without_anything_to_move_says_so() -> None:
    plan = shop_plan()
    alone = replace(plan.storage, archive=replace(ARCHIVE, cloud=None))
    page = explain(replace(plan, storage=alone), "text")
    assert "  then deleted: no cloud has copies\n" in page
    tree = json.loads(explain(replace(plan, storage=alone), "json"))
    assert tree["archive"]["copied_to"] is None
    kept = tuple(replace(topic, retention_ms=None) for topic in plan.topics)
    page = explain(replace(plan, topics=kept), "text")
    assert "\nArchive\n  nothing is moved: no topic has a retention\n\n" in page


def test_a_scan_that_slipped_through_the_judge_is_told() -> None:
    scanning = replace(
        ORDER_USER, refresh_plan=(*ORDER_USER.refresh_plan, "SCAN u VIRTUAL TABLE INDEX 0:scan")
    )
    plan = replace(shop_plan(), joins=(scanning,))
    assert "no topic is scanned" not in explain(plan, "text")
    assert "; scans u" in explain(plan, "text")
    assert json.loads(explain(plan, "json"))["joins"][0]["scans"] == ["u"]


@pytest.mark.parametrize("form", FORMS)
def test_no_form_shows_a_secret(form: str) -> None:
    shown = explain(shop_plan(), form, [WARNING], frozenset({"b:9092"}))
    for secret in (
        HEADER_SECRET,
        "header-secret",
        TOKEN_SECRET,
        URL_SECRET,
        PASSWORD,
        BUCKET_SECRET,
    ):
        assert secret not in shown
    assert "b:9092" not in shown


@pytest.mark.parametrize("form", FORMS)
def test_a_stand_in_for_a_token_garbles_nothing(form: str) -> None:
    headers = {"Authorization": Secret("Bearer none"), "X-Api-Key": Secret("native")}
    plan = shop_plan()
    api = replace(ORDERS_API, headers=headers)
    told = explain(replace(plan, sources=(api, *plan.sources[1:])), form)
    assert told == explain(plan, form)


def test_the_json_form_has_the_documented_names() -> None:
    tree = json.loads(explain(shop_plan(), "json", [WARNING]))
    assert list(tree) == [
        "name", "config_hash", "storage", "delivery", "sources", "budgets", "topics", "joins",
        "windows", "sinks", "estimates", "archive", "replication", "unsupported", "warnings",
    ]  # fmt: skip
    assert tree["sources"][0] == {
        "name": "orders-api",
        "type": "api",
        "topics": ["orders"],
        "reads": "GET https://api.example.com/orders?limit=100&appid=${OWM_KEY}",
        "requests_per_minute": 2.0,
        "pagination": {"type": "cursor", "min_pages": 1, "max_pages": 5},
        "auth": None,
        "watermark": "none",
        "change_detection": "diff",
        "detect_deletes": False,
        "interval_ms": 30_000,
        "most_requests_per_minute": 10.0,
        "allowed_per_minute": 60.0,
        "per_record_of": None,
        "budget": "api.example.com",
    }
    assert tree["sources"][1]["requests_per_minute"] is None
    assert tree["topics"][0] == {
        "name": "orders",
        "shards": 8,
        "columns": ["key", "payload", "timestamp", "timestamp_ms", "op", "changes"],
        "indexes": [
            {
                "path": "$.user_id",
                "used_by": ["order-user"],
                "column": "lj:1",
                "expression": "CAST(1 AS TEXT)",
            }
        ],
        "retention": "24h",
        "fed_by": ["orders-api", "push"],
    }
    assert tree["topics"][1]["retention"] is None
    join = tree["joins"][0]
    assert {name: join[name] for name in ("name", "key", "strategy", "reasons", "sinks")} == {
        "name": "order-user",
        "key": "order_id",
        "strategy": "native",
        "reasons": [],
        "sinks": ["hook", "live"],
    }
    assert join["references"][0] == {
        "topic": "orders",
        "alias": "o",
        "strategy": "native",
        "through": "by key",
        "index": None,
        "sql": "SELECT 1",
        "query_plan": ["SCAN o VIRTUAL TABLE INDEX 2:delta"],
    }
    assert tree["joins"][1]["reasons"] == [
        {"message": "LIMIT without a key", "line": 31, "column": 9, "rewrite": "drop LIMIT"}
    ]
    assert tree["windows"][0] == {
        "name": "per-hour",
        "type": "sliding",
        "topic": "orders",
        "size_ms": 3_600_000,
        "slide_ms": 60_000,
        "gap_ms": None,
        "lateness_ms": 0,
        "buffer_bound_ms": 3_600_000,
        "time_path": None,
        "partition_by": None,
        "on_late": "drop",
        "emit": "close",
        "fires_per_minute": 1.0,
        "windows_per_message": 60,
        "pane_ms": None,
        "no_panes": None,
        "read_by": [],
        "indexes": [],
        "sinks": ["live"],
    }
    assert tree["sinks"][0] == {
        "name": "hook",
        "type": "http",
        "guarantee": "at_least_once",
        "to": "POST http://localhost:9000/hook",
    }
    assert (tree["estimates"]["memory_mb"], tree["estimates"]["disk_mb"]) == (48.0, 2600.0)
    assert tree["unsupported"] == [{"feature": "windows", "line": 40, "column": 3}]
    assert tree["warnings"][0]["code"] == "LJ241"
    assert set(tree["warnings"][0]) == set(WARNING)


def test_the_mermaid_form_draws_every_node_once_and_quotes_names() -> None:
    lines = explain(shop_plan(), "mermaid").splitlines()
    assert lines[0] == "flowchart LR"
    nodes = [line for line in lines[1:] if "-->" not in line]
    edges = [line.split() for line in lines if "-->" in line]
    plan = shop_plan()
    parts = (*plan.sources, *plan.topics, *plan.joins, *plan.windows, *plan.sinks)
    assert len(nodes) == len(parts)
    for part, line in zip(parts, nodes, strict=True):
        assert f'"{part.name}' in line
    known = {line.strip().split("[")[0].split("(")[0] for line in nodes}
    assert {end for start, _, end in edges} | {start for start, _, end in edges} <= known
    assert len(edges) == len({tuple(edge) for edge in edges}) == 12


def test_the_page_tells_how_a_source_signs_in_and_asks_but_no_credential() -> None:
    source = replace(
        ORDERS_API,
        auth=TokenAuth("bearer", Secret("bearer-secret")),
        watermark=WatermarkPlan("timestamp", path="updated_at"),
        change_detection="hash",
        detect_deletes=True,
    )
    page = explain(replace(shop_plan(), sources=(source,)), "text")
    told = "auth bearer; watermark timestamp updated_at; compared by hash; deletes what is gone"
    assert f"    {told}\n" in page
    assert "bearer-secret" not in page


def test_the_page_tells_which_time_and_whose_windows() -> None:
    window = replace(
        shop_plan().windows[0],
        time_path="at",
        partition_by="payload ->> '$.page'",
        on_late="sink",
        late_sink="hook",
    )
    page = explain(replace(shop_plan(), windows=(window,)), "text")
    told = "event time at at, a window for each payload ->> '$.page'; late messages go to hook"
    assert f"    {told}\n" in page


def test_explain_leaves_the_plan_as_it_was() -> None:
    plan = shop_plan()
    explain(plan, "json")
    assert plan == shop_plan()
    assert isinstance(plan.server.tokens[0].value, Secret)
