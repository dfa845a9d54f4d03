"""What the compiler makes of a document: defaults, names, indexes, findings."""

import dataclasses
from pathlib import Path

import pytest

from litejoin.config import load_config
from litejoin.plan.compile import compile_plan
from litejoin.plan.nodes import (
    Address,
    ApiSourcePlan,
    ClientTls,
    CustomSinkPlan,
    FileSinkPlan,
    HttpSinkPlan,
    HttpSourcePlan,
    KafkaSourcePlan,
    PostgresSinkPlan,
    ResponseClasses,
    Secret,
    SqliteSinkPlan,
    SseSinkPlan,
    Token,
)
from litejoin.plan.nodes_api import PagingPlan, RatePlan, RetryPlan
from tests.unit.plan.documents import SOURCES, document_of, findings_of, join_of, plan_of

JOIN = "joins: [{name: j, query: SELECT key FROM orders, sink: out}]\n"


def test_defaults_of_a_small_config() -> None:
    plan = plan_of(SOURCES + JOIN)
    assert plan.name == "shop"
    assert plan.file == "shop.yaml"
    assert plan.storage == dataclasses.replace(
        plan.storage, data_dir=Path("data"), shard_count=8, reader_pool_size=4, batch_size=1000,
        flush_interval_ms=10, synchronous="normal", row_cache_bytes=24 << 20,
    )  # fmt: skip
    assert plan.delivery.guarantee == "best_effort"
    assert plan.delivery.dlq.path == Path("data/dlq.db")
    assert plan.delivery.dlq.max_size_bytes == 500 << 20
    assert (plan.retention_ms, plan.clean_interval_ms) == (None, 60_000)
    assert plan.server.addr == Address("127.0.0.1", 9100, explicit=False)
    assert plan.server.tokens == ()
    assert plan.server.limits.max_body_bytes == 8 << 20
    assert plan.server.limits.header_timeout_ms == 10_000
    assert plan.unsupported == ()


def test_at_least_once_is_synchronous_full_unless_the_config_says_otherwise() -> None:
    durable = "delivery: {guarantee: at_least_once}\n"
    assert plan_of(SOURCES + JOIN + durable).storage.synchronous == "full"
    said = durable + "storage: {synchronous: normal}\n"
    plan = plan_of(SOURCES + JOIN + said)
    assert plan.storage.synchronous == "normal"
    assert [sink.guarantee for sink in plan.sinks] == ["at_least_once"]


def test_every_key_of_an_api_source_arrives() -> None:
    plan = plan_of(
        """
        name: shop
        sources:
          - name: api
            type: api
            topic: orders
            api:
              url: https://api.example.com/orders?token=${TOKEN}
              interval: 1m30s
              key_path: [region, id]
              method: POST
              body: {status: open}
              response_path: data.items
              change_detection: hash
              detect_deletes: true
              timeout: 5s
              initial_snapshot: false
              headers: {Authorization: "Bearer ${TOKEN}"}
              max_consecutive_failures: 3
              ignore_fields: [fetched_at]
              max_response_bytes: 1MB
              pagination: {type: page, size: 50, max_page: 20}
              rate_limit: {requests_per_second: 2, requests_per_minute: 60}
        """,
        TOKEN="tok-123",
    )
    (source,) = plan.sources
    assert source == ApiSourcePlan(
        name="api",
        topic="orders",
        url="https://api.example.com/orders?token=tok-123",
        method="POST",
        interval_ms=90_000,
        key_path=("region", "id"),
        response_path="data.items",
        change_detection="hash",
        detect_deletes=True,
        timeout_ms=5_000,
        initial_snapshot=False,
        headers={"Authorization": Secret("Bearer tok-123")},
        body='{"status": "open"}',
        max_consecutive_failures=3,
        ignore_fields=("fetched_at",),
        max_response_bytes=1 << 20,
        pagination="page",
        min_pages=1,
        max_pages=20,
        allowed_per_minute=60.0,
        shown_url="https://api.example.com/orders?token=${TOKEN}",
        paging=PagingPlan(
            "page",
            param="page",
            start=1,
            size=50,
            most=20,
            stop_after_empty_page=True,
            max_pages=1000,
        ),
        rate=RatePlan(per_second=2, per_minute=60),
        retry=RetryPlan(max_attempts=3),
    )  # fmt: skip
    assert repr(source).count("tok-123") == 1  # the url, which requests need


@pytest.mark.parametrize(
    ("pagination", "most"),
    [
        ("{type: none}", 1),
        ("{type: cursor, path: next, param: c}", 1000),
        ("{type: cursor, path: next, param: c, max_pages: 7}", 7),
        ("{type: offset, limit: 100, max_offset: 950}", 10),
        ("{type: offset, limit: 100, max_records: 250}", 3),
        ("{type: page, start: 0, max_page: 4}", 5),
    ],
)
def test_pages_of_a_poll_are_bounded(pagination: str, most: int) -> None:
    (source,) = plan_of(
        "sources: [{name: a, type: api, topic: t, api: {url: 'http://h', interval: 1m, "
        f"key_path: id, pagination: {pagination}}}}}]"
    ).sources
    assert isinstance(source, ApiSourcePlan)
    assert (source.min_pages, source.max_pages) == (1, most)


def test_every_kind_of_source_and_sink_arrives() -> None:
    plan = plan_of(
        """
        sources:
          - {name: push, type: http, config: {addr: ":8080"}}
          - name: bus
            type: kafka
            topics: [prod.orders, users]
            config: {brokers: "b:9092", topic_map: {prod.orders: orders}}
        joins:
          - name: j
            query: SELECT key FROM orders
            sinks: [hook, live, table, log, pg, lines, own]
        sinks:
          - name: hook
            type: http
            config: {url: "http://h/x", method: PUT, timeout: 3s, max_in_flight: 2,
                     headers: {X-Key: "${KEY}"}}
          - {name: live, type: sse, config: {addr: "127.0.0.1:9200"}}
          - {name: table, type: sqlite, config: {path: out.db, table: results}}
          - {name: log, type: stdout}
          - {name: pg, type: postgres, config: {dsn: "${DSN}", table: results}}
          - {name: lines, type: file, config: {path: out.jsonl, rotate: {max_size: 1MB}}}
          - {name: own, type: custom, uses: chat, config: {room: orders, password: "${DSN}"}}
        """,
        KEY="header-key",
        DSN="postgres://me:pw@db/x",
    )
    assert plan.sources == (
        HttpSourcePlan("push", (), Address("", 8080)),
        KafkaSourcePlan("bus", ("orders", "users"), ("prod.orders", "users"), "b:9092", "litejoin"),
    )
    hook, live, table, log, postgres, lines, own = plan.sinks
    assert hook == HttpSinkPlan(
        "hook", "best_effort", "http://h/x", "PUT", 3_000, {"X-Key": Secret("header-key")}, 2,
        "http://h/x",
    )  # fmt: skip
    assert live == SseSinkPlan("live", "best_effort", Address("127.0.0.1", 9200))
    assert table == SqliteSinkPlan("table", "best_effort", Path("out.db"), "results")
    assert log.type == "stdout"
    assert postgres == PostgresSinkPlan(
        "pg", "best_effort", Secret("postgres://me:pw@db/x"), "results"
    )
    assert lines == FileSinkPlan("lines", "best_effort", Path("out.jsonl"), 1 << 20, 10)
    assert isinstance(own, CustomSinkPlan)
    assert own.config == {"room": "orders", "password": "postgres://me:pw@db/x"}
    assert "pw" not in repr(plan)
    assert "header-key" not in repr(plan)
    assert plan.unsupported == ()


def webhook(config: str, **variables: str) -> HttpSinkPlan:
    plan = plan_of(
        f"""
        delivery: {{guarantee: at_least_once}}
        sources: [{{name: push, type: http, config: {{addr: ":8080"}}}}]
        joins: [{{name: j, query: SELECT key FROM orders, sink: hook}}]
        sinks:
          - name: hook
            type: http
            guarantee: best_effort
            config: {{url: "https://h/x", {config}}}
        """,
        **variables,
    )
    (hook,) = plan.sinks
    assert isinstance(hook, HttpSinkPlan)
    return hook


@pytest.mark.parametrize(
    ("auth", "headers", "query"),
    [("type: bearer, token: t0ken", {"Authorization": "Bearer t0ken"}, {}),
     ("type: basic, username: me, password: pw", {"Authorization": "Basic bWU6cHc="}, {}),
     ("type: api_key, name: X-Key, value: v", {"X-Key": "v"}, {}),
     ("type: api_key, name: k, value: v, in: cookie", {"Cookie": "k=v"}, {}),
     ("type: api_key, name: k, value: v, in: query", {}, {"k": "v"})],
)  # fmt: skip
def test_authorization_of_a_webhook_becomes_headers_or_parameters(
    auth: str, headers: dict[str, str], query: dict[str, str]
) -> None:
    hook = webhook(f"auth: {{{auth}}}")
    assert (hook.headers, hook.query) == (headers, query)
    assert all(isinstance(v, Secret) for v in (*hook.headers.values(), *hook.query.values()))


def test_a_webhook_has_secrets_batches_and_classes_of_answers() -> None:
    hook = webhook(
        "secret: ['${NEW}', '${OLD}'], batch: {max_results: 50},"
        " responses: {retry: [409, 5xx], stop: []}, tls: {ca_file: ca.pem}",
        NEW="new-secret",
        OLD="old-secret",
    )
    assert hook.secrets == ("new-secret", "old-secret")
    assert hook.max_batch == 50
    assert hook.responses == ResponseClasses(("2xx",), ("409", "5xx"), (), ("3xx", "4xx"))
    assert hook.tls == ClientTls(Path("ca.pem"))
    assert "secret'" not in repr(hook)
    assert webhook("secret: one-secret").secrets == ("one-secret",)


def test_a_default_class_of_answers_gives_way_to_what_is_written() -> None:
    hook = webhook("responses: {park: [429, 5xx], stop: [4XX]}")
    assert hook.responses == ResponseClasses(("2xx",), ("408", "425"), ("4xx",), ("429", "5xx"))


def test_a_cookie_of_auth_goes_beside_a_cookie_of_the_headers() -> None:
    auth = "auth: {type: api_key, name: k, value: v, in: cookie}"
    assert webhook(f"headers: {{cookie: a=b}}, {auth}").headers == {"cookie": "a=b; k=v"}


def test_a_sink_may_have_its_own_guarantee() -> None:
    plan = plan_of(
        """
        sources: [{name: push, type: http, config: {addr: ":8080"}}]
        joins: [{name: j, query: SELECT key FROM orders, sinks: [a, b]}]
        sinks: [{name: a, type: stdout, guarantee: at_least_once}, {name: b, type: stdout}]
        """
    )
    assert [sink.guarantee for sink in plan.sinks] == ["at_least_once", "best_effort"]
    assert plan.storage.synchronous == "full", "what is promised to one sink is kept on disk"


def test_tokens_have_scopes() -> None:
    plan = plan_of(
        SOURCES
        + JOIN
        + "server: {auth: {tokens: ['${A}', {token: '${B}', scopes: [ingest]}]}, "
        + "tls: {cert_file: c.pem, key_file: k.pem}, cors_origins: ['*']}\n",
        A="token-number-a",
        B="token-number-b",
    )
    assert plan.server.tokens == (
        Token(Secret("token-number-a"), frozenset({"ingest", "subscribe", "admin"})),
        Token(Secret("token-number-b"), frozenset({"ingest"})),
    )
    assert (plan.server.tls_cert_file, plan.server.cors_origins) == (Path("c.pem"), ("*",))


def test_topics_are_those_of_sources_queries_and_windows_once_without_case() -> None:
    plan = plan_of(
        """
        sources:
          - {name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}
          - {name: any, type: http, config: {addr: "127.0.0.1:8080"}}
        joins:
          - {name: j, query: 'SELECT o.key FROM Orders o JOIN "user-events" USING (key)', sink: s}
        windows:
          - {name: w, type: tumbling, size: 5m, topic: clicks, sink: s,
             query: SELECT count(*) AS n FROM clicks}
        sinks: [{name: s, type: stdout}]
        """
    )
    assert [(topic.name, topic.fed_by) for topic in plan.topics] == [
        ("orders", ("push", "any")),
        ("clicks", ("any",)),
        ("user-events", ("any",)),
    ]
    assert [reference.topic for reference in plan.joins[0].references] == ["orders", "user-events"]


def test_retention_of_a_topic_goes_before_that_of_all() -> None:
    text = SOURCES + "topics: {users: {retention: 1h}}\n"
    plan = plan_of(text + "retention: {duration: 24h, clean_interval: 30s}\n")
    assert [topic.retention_ms for topic in plan.topics] == [86_400_000, 3_600_000]
    assert plan.clean_interval_ms == 30_000
    assert [topic.retention_ms for topic in plan_of(text).topics] == [None, 3_600_000]


def test_joins_with_one_expression_share_its_key_map() -> None:
    on = "JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
    other = "JOIN users u ON json_extract(o.payload, '$.buyer') = u.key"
    plan = plan_of(
        SOURCES
        + f"""
joins:
  - {{name: a, sink: out, query: "SELECT o.key FROM orders o {on}"}}
  - {{name: b, sink: out, query: "SELECT o.key, u.payload FROM orders o {on}"}}
  - {{name: c, sink: out, query: "SELECT o.key FROM orders o {other}"}}
"""
    )
    orders, users = plan.topics
    assert [(i.column, i.path, i.used_by) for i in orders.indexes] == [
        ("lj:1", "$.user_id", ("a", "b")),
        ("lj:2", "$.buyer", ("c",)),
    ]
    assert users.indexes == ()
    assert [join.strategy for join in plan.joins] == ["native"] * 3


def test_the_key_is_the_first_column_or_the_one_that_is_named() -> None:
    query = "SELECT key AS id, payload ->> '$.a' AS a FROM orders"
    join = join_of(query)
    assert (join.key_column, join.key_index, join.columns) == ("id", 0, ("id", "a"))
    join = join_of(query, key_column="A")
    assert (join.key_column, join.key_index) == ("a", 1)


def test_result_key_renames_the_key_or_names_it() -> None:
    query = "SELECT o.key AS order_id, o.op FROM orders o"
    assert join_of(query, result_key="id").columns == ("id", "op")
    renamed = join_of(query, result_key="id", key_column="order_id")
    assert (renamed.key_column, renamed.columns) == ("id", ("id", "op"))
    # As in configs of the original: the key's expression and its alias.
    original = join_of(query, result_key="order_id", key_column="o.key")
    assert (original.key_column, original.key_index) == ("order_id", 0)


def test_keys_of_a_join_arrive() -> None:
    keys = {"emit": "all", "on_delete": "ignore", "json_columns": "[p]"}
    join = join_of("SELECT key, payload AS p FROM orders", **keys)
    assert (join.emit, join.on_delete, join.json_columns) == ("all", "ignore", ("p",))
    spelled = join_of("SELECT key, payload AS p, op AS Op FROM orders", json_columns="[oP, P]")
    assert spelled.json_columns == ("Op", "p"), "as the output spells them, which is what counts"
    assert join.sinks == ("out",)


def test_the_reason_of_a_full_join_stands_at_its_line() -> None:
    text = SOURCES + (
        "joins:\n"
        "  - name: top\n"
        "    sink: out\n"
        "    query: |\n"
        "      SELECT key\n"
        "      FROM orders\n"
        "      LIMIT 10\n"
    )
    (join,) = plan_of(text).joins
    assert join.strategy == "full"
    assert [(r.place.line, r.place.column) for r in join.reasons if r.place] == [(11, 7)]
    (finding,) = findings_of(text)
    assert (finding.code, finding.line, finding.column) == ("LJ241", 11, 7)
    assert 'join "top" is re-evaluated in full on every change' in finding.message


def test_a_topic_nobody_feeds_is_a_warning_with_what_is_fed() -> None:
    text = SOURCES + "joins: [{name: j, query: SELECT key FROM ordrs, sink: out}]\n"
    (finding,) = findings_of(text)
    assert (finding.code, finding.level) == ("LJ217", "warning")
    assert finding.hint == "fed are orders, users"
    assert 'no source feeds the topic "ordrs" (did you mean "orders"?)' in finding.message
    assert plan_of(text).topics[2].fed_by == ()


def test_a_source_that_takes_any_topic_feeds_all() -> None:
    text = "sources: [{name: p, type: http, config: {addr: '127.0.0.1:1'}}]\n"
    assert findings_of(text + JOIN + "sinks: [{name: out, type: stdout}]\n") == []


def test_errors_of_all_queries_are_found_in_one_run() -> None:
    text = SOURCES + (
        "joins:\n"
        "  - {name: a, query: SELEC key FROM orders, sink: out}\n"
        "  - {name: b, query: SELECT nope FROM orders, sink: out}\n"
        "windows:\n"
        "  - {name: c, type: tumbling, size: 1m, topic: orders, sink: out,\n"
        "     query: SELECT no FROM orders}\n"
    )
    plan, findings = compile_plan(document_of(text))
    assert plan is None
    assert [(f.code, f.line) for f in findings] == [("LJ214", 6), ("LJ212", 7), ("LJ212", 10)]


def test_a_document_with_errors_gives_findings_but_no_plan() -> None:
    text = SOURCES + "joins: [{name: a, query: SELECT nope FROM orders, sink: out}]\nstorrage: {}\n"
    document, found = load_config(text, env={})
    assert document is not None
    assert [finding.code for finding in found] == ["LJ103"]
    plan, more = compile_plan(document)
    assert plan is None
    assert [finding.code for finding in more] == ["LJ212"]


def test_an_inline_comment_hides_a_warning() -> None:
    query = "joins: [{name: j, query: SELECT key FROM orders LIMIT 1, sink: out}]"
    assert [f.code for f in findings_of(SOURCES + query)] == ["LJ241"]
    assert findings_of(SOURCES + query + "  # litejoin: ignore[LJ241]\n") == []


@pytest.mark.parametrize(
    ("query", "code", "column"),
    [
        ('SELECT key FROM "no topic"', "LJ211", 17),
        ("SELECT key FROM orders WHERE key = ?1", "LJ215", 36),
        ("SELECT key FROM orders WHERE key = :name", "LJ215", 36),
        ("SELECT key FROM orders WHERE key = 'ab", "LJ210", 36),
    ],
)
def test_queries_that_sqlite_takes_but_litejoin_does_not(
    query: str, code: str, column: int
) -> None:
    text = SOURCES + f"joins:\n  - name: j\n    sink: out\n    query: |\n      {query}\n"
    (finding,) = findings_of(text)
    assert (finding.code, finding.line, finding.column) == (code, 9, 6 + column)


def test_a_topic_read_like_a_function_is_not_incremental() -> None:
    assert join_of("SELECT key FROM orders(1)").strategy == "full"


def test_an_sql_error_does_not_quote_a_secret() -> None:
    text = SOURCES + "joins: [{name: j, query: 'SELECT ${COLUMN} FROM orders', sink: out}]\n"
    (finding,) = findings_of(text, COLUMN="hidden_column")
    assert finding.code == "LJ212"
    assert "hidden_column" not in finding.message
