"""Who may do what on a listener: tokens, scopes, origins, host names; and /health for everyone."""

from typing import Any

import pytest

from litejoin.plan.nodes import Address, Secret, Token
from litejoin.runtime.http_access import Access, host_name
from litejoin.runtime.server import Listeners
from tests.unit.runtime.serving import ROW, TOKENS, Client, ask, get, plan, post, serving


async def say_ok(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def with_stream(listeners: Listeners) -> None:
    address = plan().addr
    listeners.add(address, "GET", "/subscribe", say_ok, "subscribe", query_token=True)
    listeners.add(address, "GET", "/snapshot", say_ok, "subscribe")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer ingest-token", 200),
        ("bearer  ingest-token", 200),
        ("Bearer admin-token", 403),
        ("Bearer ingest-toke", 401),
        ("Bearer ", 401),
        ("Basic ingest-token", 401),
        (None, 401),
    ],
)
def test_ingest_needs_its_scope(authorization: str | None, status: int) -> None:
    headers = [] if authorization is None else [f"Authorization: {authorization}"]
    with serving(server=plan(tokens=TOKENS)) as server:
        reply = ask(server.port, post(ROW, *headers))
        assert reply.status == status
        assert ("www-authenticate" in reply.headers) == (status == 401)
        if status != 200:
            assert reply.json()["code"] == "LJ-HTTP"
            assert "token" in reply.json()["error"]
            assert "ingest-toke" not in reply.json()["error"]
        assert server.intake.batches == (status == 200)


def test_a_token_that_is_listed_twice_opens_what_either_says() -> None:
    both = [Token(Secret("the-same"), frozenset({scope})) for scope in ("ingest", "admin")]
    access = Access(tuple(both), ())
    assert access.scopes(b"the-same") == {"ingest", "admin"}
    assert access.scopes(b"another") is None


def test_only_streams_take_a_token_from_the_query() -> None:
    with serving(server=plan(tokens=TOKENS), add=with_stream) as server:
        query = "?join=*&access_token=reader-token"
        assert ask(server.port, get("/subscribe" + query)).status == 200
        assert ask(server.port, get("/snapshot" + query)).status == 401
        assert ask(server.port, get("/subscribe?access_token=nobody")).status == 401
        assert ask(server.port, get("/subscribe?access_token=ingest-token")).status == 403
        assert ask(server.port, post(ROW, path="/ingest?access_token=ingest-token")).status == 401


def test_health_shows_details_only_to_the_admin() -> None:
    state = {"status": "degraded", "reasons": ["shard 3 is quarantined"]}
    with serving(server=plan(tokens=TOKENS), health=lambda: state) as server:
        assert ask(server.port, get("/health")).json() == {"status": "degraded"}
        reader = get("/health", "Authorization: Bearer reader-token")
        assert ask(server.port, reader).json() == {"status": "degraded"}
        admin = get("/health", "Authorization: Bearer admin-token")
        assert ask(server.port, admin).json() == state
    with serving(health=lambda: state) as server:
        assert ask(server.port, get("/health")).json() == state


@pytest.mark.parametrize(
    ("status", "code"), [("ok", 200), ("degraded", 200), ("starting", 503), ("draining", 503)]
)
def test_health_says_when_nobody_should_come(status: str, code: int) -> None:
    with serving(health=lambda: {"status": status}) as server:
        reply = ask(server.port, get("/health"))
        assert (reply.status, reply.json()) == (code, {"status": status})
        assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8080", 200), ("127.0.0.1:1", 200), ("[::1]:8080", 200),
        ("app.localhost", 200), ("shop.example", 200), ("evil.example", 403), ("127.0.0.1.evil",
        403), ("localhost.evil.example:80", 403), ("[::1", 403), ("", 403), ("10.0.0.1", 403),
    ],
)  # fmt: skip
def test_a_loopback_listener_checks_the_host(host: str, status: int) -> None:
    with serving(server=plan(cors_origins=("https://shop.example",))) as server:
        assert ask(server.port, post(ROW, host=host)).status == status
        assert ask(server.port, post(ROW, host=host)).status == status


def test_a_public_listener_has_no_names_to_check() -> None:
    with serving(server=plan(addr=Address("", 0))) as server:
        assert ask(server.port, post(ROW, host="shop.example")).status == 200


def test_host_is_needed_and_unique() -> None:
    with serving() as server:
        missing = ask(server.port, b"GET /health HTTP/1.1\r\n\r\n")
        assert (missing.status, missing.json()["error"]) == (400, "the Host header is missing")
        assert ask(server.port, get("/health", "Host: localhost")).status == 400
        with Client(server.port) as client:
            client.send(b"GET /health HTTP/1.0\r\n\r\n")
            assert client.reply().status == 200
            assert client.closed()


@pytest.mark.parametrize(
    ("value", "name"),
    [(b"a:1", "a"), (b"[::1]:5", "::1"), (b"A.B", "a.b"), (b"[", ""), (b"", ""), (b"\xff", "")],
)
def test_host_name(value: bytes, name: str) -> None:
    assert host_name(value) == name


def test_a_foreign_page_cannot_send_rows() -> None:
    with serving(server=plan(cors_origins=("https://shop.example",))) as server:
        for origin in ("https://evil.example", "null", "https://shop.example.evil.example"):
            reply = ask(server.port, post(ROW, f"Origin: {origin}"))
            assert (reply.status, server.intake.batches) == (403, 0)
            assert "access-control-allow-origin" not in reply.headers
        for origin in ("https://shop.example", "http://localhost"):
            reply = ask(server.port, post(ROW, f"Origin: {origin}"))
            assert reply.status == 200
            assert reply.headers["access-control-allow-origin"] == origin
            assert reply.headers["vary"] == "origin"
        bad = ask(server.port, post(b"junk", "Origin: https://shop.example"))
        assert (bad.status, bad.headers["access-control-allow-origin"]) == (
            400,
            "https://shop.example",
        )


def test_a_foreign_page_cannot_read_answers() -> None:
    with serving() as server:
        reply = ask(server.port, get("/health", "Origin: https://evil.example"))
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers


def test_any_origin_may_be_allowed() -> None:
    with serving(server=plan(cors_origins=("*",))) as server:
        reply = ask(server.port, post(ROW, "Origin: https://any.example"))
        assert reply.headers["access-control-allow-origin"] == "https://any.example"


def test_preflight() -> None:
    asking = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x")
    with serving(server=plan(cors_origins=("https://shop.example",), tokens=TOKENS)) as server:
        request = get("/ingest", "Origin: https://shop.example", *asking, method="OPTIONS")
        reply = ask(server.port, request)
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers["access-control-allow-methods"] == "POST"
        assert "idempotency-key" in reply.headers["access-control-allow-headers"]
        foreign = get("/ingest", "Origin: https://evil.example", *asking, method="OPTIONS")
        assert ask(server.port, foreign).status == 403
        assert ask(server.port, get("/ingest", method="OPTIONS")).status == 405


def test_unknown_paths_and_methods_are_json() -> None:
    with serving() as server:
        reply = ask(server.port, get("/nope%0a%1b?x=1"))
        assert (reply.status, reply.json()["code"]) == (404, "LJ-HTTP")
        assert reply.json()["error"] == r"no such path: /nope\n\x1b"
        assert reply.json()["hint"] == "paths here: /ingest /health"
        reply = ask(server.port, get("/ingest"))
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert reply.json()["error"] == "/ingest takes POST, not GET"
        assert ask(server.port, post(ROW, path="/ingest/orders")).status == 404
        assert ask(server.port, post(ROW, path="//ingest")).status == 404


def test_two_handlers_for_one_path_are_a_mistake_of_ours() -> None:
    def twice(listeners: Listeners) -> None:
        listeners.add(plan().addr, "POST", "/ingest", say_ok, None)

    with pytest.raises(ValueError, match="POST /ingest has a handler already"), serving(add=twice):
        raise AssertionError("started")
