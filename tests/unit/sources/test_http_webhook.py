"""Http sources in webhook mode: any JSON at /ingest/{topic}, keys by path, signatures, ids."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from litejoin.clock import ManualClock
from litejoin.errors import BadRowError, ConfigError
from litejoin.plan.nodes import Address, HttpSourcePlan, Secret, ServerPlan, WebhookPlan
from litejoin.records import Row, RowKind
from litejoin.runtime.server import Listeners
from litejoin.signatures import signature
from litejoin.sources.http_webhook import WebhookSource
from tests.unit.runtime.serving import (
    LIMITS,
    TOKENS,
    FakeIntake,
    Reply,
    Serving,
    ask,
    get,
    plan,
    post,
    serving,
)

HERE = Address("127.0.0.1", 0)
SECRET = "a long secret"


@contextmanager
def hooks(
    *key_path: str,
    topics: tuple[str, ...] = ("orders",),
    secrets: tuple[str, ...] = (),
    server: ServerPlan | None = None,
) -> Iterator[Serving]:
    """Listeners with one webhook source beside the plain /ingest."""
    server = server or plan()
    intake, clock = FakeIntake(), ManualClock()
    webhook = WebhookPlan(key_path or ("id",), tuple(map(Secret, secrets)))
    source = WebhookSource(
        HttpSourcePlan("hook", topics, server.addr, webhook), intake, server.limits, clock
    )

    def add(listeners: Listeners) -> None:
        for path in source.paths:
            scope = None if source.signed else "ingest"
            listeners.add(server.addr, "POST", path, source.ingest, scope)

    with serving(intake=intake, add=add, server=server) as running:
        running.clock = clock
        yield running


def push(server: Serving, body: bytes, *headers: str, path: str = "/ingest/orders") -> Reply:
    return ask(server.port, post(body, *headers, path=path))


def taken(server: Serving) -> list[tuple[bytes, bytes]]:
    return [(row.key, row.payload) for row in server.intake.rows]


def test_an_object_is_one_row_with_its_own_bytes() -> None:
    body = b' {"id": 7.0, "total":1.50,"note":"\\u00fc", "big":18446744073709551616} \n'
    with hooks() as server:
        reply = push(server, body)
        assert (reply.status, reply.json()) == (200, {"accepted": 1})
        now_ms = server.clock.now_ms()
        assert server.intake.rows == [Row(1, RowKind.UPSERT, now_ms, b"7", body.strip())]
        assert server.intake.topics == {"orders": 1}


def test_an_array_and_lines_are_a_row_an_element() -> None:
    with hooks("data.id", "kind") as server:
        one, two = (b'{"kind":"%b","data":{"id":"x"}}' % kind for kind in (b"a", b"b"))
        assert push(server, b"[%b ,\n%b]" % (one, two)).json() == {"accepted": 2}
        lines = b"%b\r\n\n%b" % (two, one)
        ndjson = "Content-Type: application/x-ndjson"
        assert push(server, lines, ndjson).json() == {"accepted": 2}
        assert taken(server) == [(b"x:a", one), (b"x:b", two), (b"x:b", two), (b"x:a", one)]
        assert push(server, b"[]").json() == {"accepted": 0}


@pytest.mark.parametrize(
    ("body", "row", "words"),
    [
        (b'{"no":1}', 0, "nothing at key path id"),
        (b'[{"id":1},{"id":null}]', 1, "key path id leads to null"),
        (b'[{"id":1},{"id":{}}]', 1, "an object"),
        (b'[{"id":1},{"id":""}]', 1, "is empty"),
        (b'[{"id":1},7]', 1, "nothing at key path"),
        (b'[{"id":"%b"}]' % (b"k" * 513), 0, "longer than 512 bytes"),
        (b'[{"id":1},{"id":"2","x":"%b"}]' % (b"x" * (1 << 20)), 1, "row over"),
        (b'{"id":1', None, "ends too early"),
        (b"", None, "ends too early"),
        (b"hello", None, "unexpected character"),
        (b'{"id":NaN}', None, "unexpected character"),
        (b'{"id":"\xff"}', None, "UTF-8"),
        (b'{"id":"\\ud800"}', None, "surrogate"),
        (b'{"id":1,"d":%b}' % (b"[" * 5_000 + b"]" * 5_000), None, "nested too deeply"),
        (b"[%b1]" % (b"1," * 10_000), None, "more than 10000 rows"),
    ],
)
def test_what_cannot_be_rows_is_refused_with_its_reason(
    body: bytes, row: int | None, words: str
) -> None:
    with hooks(server=plan(limits=LIMITS_OF_2_MB)) as server:
        reply = push(server, body)
        assert (reply.status, reply.json()["code"]) == (400, "LJ-ROW")
        assert reply.json().get("row") == row
        assert words in reply.json()["error"]
        assert server.intake.batches == 0
        assert server.intake.topics == {}


LIMITS_OF_2_MB = type(LIMITS)(
    **{name: getattr(LIMITS, name) for name in LIMITS.__dataclass_fields__}
    | {"max_body_bytes": 2 << 20}
)


def test_a_bad_line_is_named_and_refuses_all() -> None:
    with hooks() as server:
        reply = push(server, b'{"id":1}\n\n{"id":\n', "Content-Type: application/x-ndjson")
        assert (reply.status, reply.json()["row"]) == (400, 1)
        assert server.intake.batches == 0


def test_compressed_bodies_are_taken_and_bombs_are_not() -> None:
    with hooks() as server:
        coding = "Content-Encoding: gzip"
        assert push(server, gzip.compress(b'{"id":1}'), coding).status == 200
        assert push(server, gzip.compress(b" " * (2 << 20)), coding).status == 413
        assert push(server, b"no gzip", coding).status == 400
        assert len(server.intake.rows) == 1


def test_only_its_topics_have_a_path() -> None:
    with hooks(topics=("orders", "shop.refunds")) as server:
        assert push(server, b'{"id":1}', path="/ingest/shop.refunds").status == 200
        for path in ("/ingest/users", "/ingest/", "/ingest/orders/1", "/ingest/Orders"):
            reply = push(server, b'{"id":1}', path=path)
            assert reply.status == 404
            assert "/ingest/shop.refunds" in reply.json()["hint"]
        assert server.intake.topics == {"shop.refunds": 1}


def test_without_topics_any_name_is_one() -> None:
    with hooks(topics=()) as server:
        for topic in ("orders", "users", "shop.refunds"):
            assert push(server, b'{"id":1}', path=f"/ingest/{topic}").status == 200
        assert list(server.intake.topics) == ["orders", "users", "shop.refunds"]
        assert push(server, b'{"id":1}', path="/ingest/orders/1").status == 404
        assert ask(server.port, get("/ingest/orders")).status == 405


def test_rows_still_go_to_ingest() -> None:
    with hooks() as server:
        row = b'{"topic":"orders","key":"k","payload":{}}'
        assert ask(server.port, post(row)).status == 200
        assert taken(server) == [(b"k", b"{}")]


@pytest.mark.parametrize("header", ["Idempotency-Key", "webhook-id"])
def test_an_event_that_comes_again_changes_nothing_again(header: str) -> None:
    with hooks(topics=("orders", "users")) as server:
        first = push(server, b'{"id":1}', f"{header}: e1")
        assert push(server, b'{"id":1}', f"{header}: e1").json() == first.json()
        assert server.intake.batches == 1
        assert push(server, b'{"id":2}', f"{header}: e1").status == 422
        assert push(server, b'{"id":1}', f"{header}: e1", path="/ingest/users").status == 200
        assert server.intake.batches == 2


def test_names_that_are_refused_leave_nothing_in_memory() -> None:
    plan_ = HttpSourcePlan("hook", (), HERE, WebhookPlan(("id",), ()))
    source = WebhookSource(plan_, FakeIntake(allowed=frozenset({"a"})), LIMITS, ManualClock())
    fields = {b"idempotency-key": b"k"}

    async def story() -> None:
        for topic in ("x", "y"):
            with pytest.raises(BadRowError):
                await source._once(topic, fields, b'{"id":1}', False)
        assert await source._once("a", fields, b'{"id":1}', False) == 1

    asyncio.run(story())
    assert source._keyed == {}


def signed(
    server: Serving, body: bytes, secret: str = SECRET, *, late_s: int = 0, **changed: str
) -> Reply:
    """Post as a sender of Standard Webhooks does; `changed` headers, "" leaves one out."""
    sent_s = str(server.clock.now_ms() // 1000 - late_s)
    made = signature((secret.encode(),), b"msg_1", sent_s.encode(), body).decode()
    fields = {"webhook-id": "msg_1", "webhook-timestamp": sent_s, "webhook-signature": made}
    fields |= {name.replace("_", "-"): value for name, value in changed.items()}
    return push(server, body, *(f"{name}: {value}" for name, value in fields.items() if value))


def test_a_signed_request_needs_no_token_and_others_are_refused() -> None:
    body = b'{"id":1}'
    with hooks(secrets=("an old secret", SECRET), server=plan(tokens=TOKENS)) as server:
        refusals: list[dict[str, Any]] = [
            {"secret": "another"},
            {"late_s": 301},
            {"late_s": -301},
            {"webhook_signature": ""},
            {"webhook_id": ""},
            {"webhook_timestamp": ""},
            {"webhook_id": "msg_2"},
            {"webhook_timestamp": "soon"},
            {"webhook_signature": "v1,AAAA"},
        ]
        for refusal in refusals:
            reply = signed(server, body, **refusal)
            assert (reply.status, reply.json()["code"]) == (401, "LJ-HTTP"), refusal
            assert "Standard Webhooks" in reply.json()["hint"]
        assert push(server, body, "Authorization: Bearer ingest-token").status == 401
        assert server.intake.batches == 0
        assert signed(server, body, late_s=299).status == 200
        assert signed(server, body, "an old secret").json() == {"accepted": 1}
        assert taken(server) == [(b"1", body)]


def test_the_signature_is_over_the_bytes_as_sent() -> None:
    with hooks(secrets=(SECRET,)) as server:
        packed = gzip.compress(b'{"id":1}')
        assert signed(server, packed, Content_Encoding="gzip").status == 200
        assert taken(server) == [(b"1", b'{"id":1}')]


def test_without_a_secret_the_token_counts() -> None:
    with hooks(server=plan(tokens=TOKENS)) as server:
        assert push(server, b'{"id":1}').status == 401
        assert push(server, b'{"id":1}', "Authorization: Bearer reader-token").status == 403
        assert push(server, b'{"id":1}', "Authorization: Bearer ingest-token").status == 200


def test_a_secret_that_cannot_be_one_refuses_the_start() -> None:
    webhook = WebhookPlan(("id",), (Secret("whsec_not-base64!"),))
    with pytest.raises(ConfigError, match="source hook: .* not base64") as refused:
        WebhookSource(
            HttpSourcePlan("hook", (), HERE, webhook), FakeIntake(), LIMITS, ManualClock()
        )
    assert "not-base64!" not in str(refused.value)


def test_health_counts_what_was_taken_and_refused() -> None:
    intake = FakeIntake()
    source = WebhookSource(
        HttpSourcePlan("hook", ("t",), HERE, WebhookPlan(("id",))), intake, LIMITS, ManualClock()
    )
    with serving(
        intake=intake,
        add=lambda listeners: listeners.add(HERE, "POST", "/ingest/t", source.ingest, None),
    ) as server:
        push(server, b'[{"id":1},{"id":2}]', path="/ingest/t")
        push(server, b"{}", path="/ingest/t")
    assert json.loads(json.dumps(source.health())) == {
        "status": "ok",
        "accepted_rows": 2,
        "accepted_requests": 1,
        "accepted_bytes": 19,
        "rejected": {"LJ-ROW": 1},
    }
