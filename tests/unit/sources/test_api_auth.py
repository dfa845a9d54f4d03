"""Every kind of credential is sent, renewed in time, kept when it rotates, and never wandering."""

import base64
import hmac
import json
from typing import Any
from urllib.parse import unquote

import pytest

from litejoin.errors import PollError
from litejoin.plan.nodes_api import JwtPlan, OAuthPlan, RatePlan, Secret, SessionPlan, TokenAuth
from litejoin.records import RowKind
from litejoin.sources.api.jwt import sign
from litejoin.sources.api.transport import Response
from tests.unit.sources.api_pages import Api, Asked, page, run

TOKEN_URL = "https://auth.test/token"
LIST = [{"id": 1}]


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (TokenAuth("bearer", Secret("t0k")), "authorization", "Bearer t0k"),
        (TokenAuth("basic", Secret("p:w"), "me"), "authorization", "Basic bWU6cDp3"),
        (TokenAuth("api_key", Secret("k"), "X-Key"), "x-key", "k"),
        (TokenAuth("api_key", Secret("k"), "sid", "cookie"), "cookie", "sid=k"),
    ],
)
def test_fixed_credentials_go_into_headers(auth: TokenAuth, header: str, value: str) -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert api.wire.asked[0].headers[header] == value

    run(story, lambda _: page(LIST), auth=auth)


def test_a_key_in_the_query_is_on_every_page() -> None:
    def handler(asked: Asked) -> Response:
        link = (
            {} if "page" in asked.params else {"link": "<https://api.test/items?page=2>; rel=next"}
        )
        return page([{"id": len(asked.params)}], **link)

    async def story(api: Api) -> None:
        await api.poll()
        assert [asked.params["key"] for asked in api.wire.asked] == ["k", "k"]

    from litejoin.plan.nodes_api import PagingPlan

    run(story, handler, paging=PagingPlan("link_header", max_pages=9),
        auth=TokenAuth("api_key", Secret("k"), "key", "query"))  # fmt: skip


class Server:
    """A token endpoint and an API that takes its last token only."""

    def __init__(self, *, rotates: bool = False, life_s: Any = 3600) -> None:
        self.issued = 0
        self.rotates = rotates
        self.life_s = life_s
        self.refresh = "r0"
        self.asked: list[Asked] = []

    def __call__(self, asked: Asked) -> Response:
        if asked.request.url != TOKEN_URL:
            good = asked.headers.get("authorization") == f"Bearer a{self.issued}"
            return page(LIST) if good else page({}, 401)
        self.asked.append(asked)
        form = asked.form
        if form["grant_type"] == "refresh_token" and form["refresh_token"] != self.refresh:
            return page({"error": "invalid_grant", "detail": "s3cret"}, 400)
        self.issued += 1
        body = {"access_token": f"a{self.issued}", "expires_in": self.life_s}
        if self.rotates:
            self.refresh = body["refresh_token"] = f"r{self.issued}"
        return page(body)


def oauth(**more: Any) -> OAuthPlan:
    return OAuthPlan(TOKEN_URL, "id", Secret("s3cret"), **{"auth_style": "header", **more})


def test_client_credentials_are_fetched_once_and_renewed_before_they_end() -> None:
    server = Server(life_s=100)

    async def story(api: Api) -> None:
        await api.poll()
        await api.poll()
        assert (api.ok, server.issued) == (True, 1)
        api.clock.advance(91_000)  # a tenth of its life before the end
        await api.poll()
        assert (api.ok, server.issued) == (True, 2)
        [first, _] = server.asked
        assert first.form == {"grant_type": "client_credentials", "scope": "a b", "aud": "x"}
        assert first.headers["authorization"] == "Basic " + base64.b64encode(b"id:s3cret").decode()

    run(story, server, auth=oauth(scopes=("a", "b"), params={"aud": Secret("x")}))


@pytest.mark.parametrize("life", [None, "soon"])
def test_a_token_that_does_not_say_how_long_it_lives_is_taken_for_an_hour(life: str | None) -> None:
    server = Server(life_s=life)

    async def story(api: Api) -> None:
        await api.poll()
        api.clock.advance(3_569_000)
        await api.poll()
        assert server.issued == 1
        api.clock.advance(1_000)
        await api.poll()
        assert (api.ok, server.issued) == (True, 2)

    run(story, server, auth=oauth())


def test_credentials_take_the_place_of_a_header_of_the_config_whatever_its_case() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        headers = api.wire.asked[0].request.headers
        found = [text for name, text in headers.items() if name.lower() == "authorization"]
        assert found == ["Bearer t0k"]

    run(story, lambda _: page(LIST), auth=TokenAuth("bearer", Secret("t0k")),
        headers={"AUTHORIZATION": "Basic b2xk"})  # fmt: skip


def test_client_credentials_in_the_body() -> None:
    server = Server()

    async def story(api: Api) -> None:
        await api.poll()
        assert server.asked[0].form["client_secret"] == "s3cret"
        assert "authorization" not in server.asked[0].headers

    run(story, server, auth=oauth(auth_style="body"))


def test_a_401_renews_the_token_once() -> None:
    server = Server()

    async def story(api: Api) -> None:
        await api.poll()
        server.issued += 1  # revoked: the API now wants another
        await api.poll()
        assert api.ok
        api.wire.handler = lambda a: server(a) if a.request.url == TOKEN_URL else page({}, 401)
        issued = server.issued
        await api.poll()
        assert (api.ok, server.issued) == (False, issued + 1)
        assert "auth failed: HTTP 401 Unauthorized" in api.reason

    run(story, server, auth=oauth())


def test_a_token_that_ends_while_waiting_is_renewed_after_the_wait() -> None:
    server = Server(life_s=60)

    async def story(api: Api) -> None:
        await api.poll()
        await api.poll()  # the budget of one request in two minutes
        assert (api.ok, server.issued) == (True, 2)
        assert max(api.slept) > 60

    run(story, server, auth=oauth(), rate=RatePlan(per_minute=0.5))


def test_a_rotated_refresh_token_is_durable_before_its_access_token_is_used() -> None:
    server = Server(rotates=True)

    async def story(api: Api) -> None:
        stored: list[bytes] = []

        def handler(asked: Asked) -> Response:
            if asked.request.url != TOKEN_URL:
                stored.extend(
                    row.payload for row in api.store.state.values() if b"r" in row.payload
                )
            return server(asked)

        api.wire.handler = handler
        await api.poll()
        assert api.ok
        assert b'"refresh_token": "r1"' in stored[0]
        api.restart()  # as after kill -9: only what is durable is left
        await api.poll()
        assert (api.ok, server.issued, server.refresh) == (True, 2, "r2")
        assert server.asked[1].form["refresh_token"] == "r1"
        assert {row.kind for row in api.store.log} == {RowKind.UPSERT}

    run(story, server, auth=oauth(refresh_token=Secret("r0")))


def test_a_new_refresh_token_in_the_config_replaces_the_stored_one() -> None:
    server = Server(rotates=True)

    async def story(api: Api) -> None:
        await api.poll()
        server.refresh = "fresh"
        api.restart()
        await api.poll()
        assert not api.ok
        assert "auth failed: the token endpoint answered HTTP 400 Bad Request (invalid_grant)" in (
            api.reason
        )
        assert "s3cret" not in api.reason
        api.restart(auth=oauth(refresh_token=Secret("fresh")))
        await api.poll()
        assert api.ok

    run(story, server, auth=oauth(refresh_token=Secret("r0")))


def test_a_session_logs_in_and_sends_its_token_as_told() -> None:
    def handler(asked: Asked) -> Response:
        if asked.path == "/login":
            assert asked.body == {"user": "me"}
            return page({"data": {"token": "s1", "ttl": 10}})
        return page(LIST) if asked.headers.get("x-session") == "tok s1" else page({}, 401)

    plan = SessionPlan("https://api.test/login", "POST", Secret('{"user": "me"}'), "data.token",
                       "data.ttl", "X-Session: tok {token}")  # fmt: skip

    async def story(api: Api) -> None:
        await api.poll()
        assert api.ok

    run(story, handler, auth=plan)


def test_a_jwt_is_signed_and_timed() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        token = api.wire.asked[0].headers["authorization"].removeprefix("Bearer ")
        head, claims, signature = (decoded(part) for part in token.split("."))
        assert json.loads(head) == {"typ": "JWT", "alg": "HS256", "kid": "7"}
        now_s = api.clock.now_ms() // 1000
        assert json.loads(claims) == {"iat": now_s, "exp": now_s + 300, "iss": "me"}
        text = token.rpartition(".")[0].encode()
        assert signature == hmac.new(b"key", text, "sha256").digest()

    plan = JwtPlan(Secret("key"), "HS256", {"iss": "me"}, {"kid": "7"})
    run(story, lambda _: page(LIST), auth=plan)


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_jwt_is_exchanged_for_a_token_where_the_config_says_so() -> None:
    def handler(asked: Asked) -> Response:
        if asked.path == "/token":
            return page({"access_token": "t1", "expires_in": 100})
        return page(LIST) if asked.headers.get("authorization") == "Bearer t1" else page({}, 401)

    plan = JwtPlan(Secret("key"), "HS256", {"iss": "me", "scope": "read"}, {},
                   "https://api.test/token", {"resource": Secret("x")})  # fmt: skip

    async def story(api: Api) -> None:
        await api.poll()
        assert api.ok
        form = api.wire.asked[0].form
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert form["resource"] == "x"
        assert json.loads(decoded(form["assertion"].split(".")[1]))["scope"] == "read"
        api.clock.advance(89_000)
        await api.poll()
        assert [asked.path for asked in api.wire.asked] == ["/items"]
        api.clock.advance(2_000)
        await api.poll()
        assert [asked.path for asked in api.wire.asked] == ["/token", "/items"]

    run(story, handler, auth=plan)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
def test_private_keys_sign(algorithm: str) -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    key: Any = rsa.generate_private_key(65537, 2048)
    if algorithm in curves:
        key = ec.generate_private_key(curves[algorithm])
    elif algorithm == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    token = sign({}, {"a": 1}, pem, algorithm)
    text, _, signature = token.rpartition(".")
    raw = decoded(signature)
    if algorithm == "RS256":
        key.public_key().verify(raw, text.encode(), padding.PKCS1v15(), hashes.SHA256())
    elif algorithm == "PS256":
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        key.public_key().verify(raw, text.encode(), pss, hashes.SHA256())
    elif algorithm == "EdDSA":
        key.public_key().verify(raw, text.encode())
    else:
        half = len(raw) // 2
        pair = utils.encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )
        digests = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}
        digest = digests[algorithm]
        key.public_key().verify(pair, text.encode(), ec.ECDSA(digest))
    for other in ("EdDSA", "ES256") if algorithm[1:] == "S256" else ("RS256", "PS256"):
        if other != algorithm:
            with pytest.raises(PollError, match="another kind"):
                sign({}, {}, pem, other)


def test_a_key_that_is_none_is_told_without_it() -> None:
    with pytest.raises(PollError) as error:
        sign({}, {}, "s3cret", "RS256")
    assert "s3cret" not in unquote(str(error.value))


@pytest.mark.parametrize(
    ("status", "location", "follows", "ok"),
    [
        (302, "/other", True, True),
        (308, "https://api.test/other", True, True),
        (302, "https://evil.test/other", True, False),
        (302, "http://api.test/other", True, False),
        (302, "https://api.test:8443/other", True, False),
        (302, "/other", False, False),
        (302, "/items", True, False),
    ],
)
def test_redirects_stay_on_the_origin_and_end(
    status: int, location: str, follows: bool, ok: bool
) -> None:
    def handler(asked: Asked) -> Response:
        assert asked.request.url.startswith("https://api.test/")
        return page(LIST) if asked.path == "/other" else page({}, status, location=location)

    async def story(api: Api) -> None:
        await api.poll()
        assert api.ok is ok

    run(story, handler, follow_redirects=follows, auth=TokenAuth("bearer", Secret("t")))
