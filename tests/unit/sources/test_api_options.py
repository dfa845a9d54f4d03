"""Options of a config, as YAML: what they make of the requests, one after the other."""

import json
from base64 import b64encode
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from litejoin.errors import StartRefusedError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.sources.api.source import network
from litejoin.sources.api.transport import Response
from tests.unit.plan.documents import plan_of
from tests.unit.sources.api_pages import Api, Asked, items, page, run
from tests.unit.sources.api_world import PLAN

TWO = [page({"d": items(0, 2), "next": "n2"}), page({"d": items(2, 3), "next": None})]
"""Two pages of a list of three records."""


def configured(api: str) -> dict[str, Any]:
    """The fields of the plan of an api source with this block, in flow style."""
    (source,) = plan_of(
        "sources: [{name: orders-api, type: api, topic: orders, api: {interval: 1m, key_path: id,"
        f" response_path: d, detect_deletes: true, {api}}}}}]"
    ).sources
    assert isinstance(source, ApiSourcePlan)
    return {field.name: getattr(source, field.name) for field in fields(source)}


def told(asked: Asked) -> str:
    """A request as one line: path, query, the headers of interest, JSON body."""
    query = "&".join(f"{name}={text}" for name, text in asked.params.items())
    heads = [f"{n}: {t}" for n, t in asked.headers.items() if n.startswith("x-")]
    body = [] if asked.body is None else [json.dumps(asked.body)]
    return " ".join([asked.path + (f"?{query}" if query else ""), *heads, *body])


def walk(api: str, answers: list[Response]) -> tuple[list[str], Api]:
    """The requests of one poll that gets these answers, and the source after it."""
    left = list(answers)
    found: list[str] = []

    async def story(api: Api) -> None:
        await api.poll()
        found.extend(told(asked) for asked in api.wire.asked)

    return found, run(story, lambda _: left.pop(0), **configured(api))


@pytest.mark.parametrize(
    ("tls", "named"),
    [("ca_file: gone.pem", "tls.ca_file cannot be used: No such file or directory"),
     ("cert_file: text.pem, key_file: text.pem", "tls.cert_file and tls.key_file cannot be used")],
)  # fmt: skip
def test_tls_files_that_cannot_be_used_are_named_before_the_first_poll(
    tls: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pem").write_text("no PEM")
    plan = replace(PLAN, **configured(f"{U}, tls: {{{tls}}}"))
    with pytest.raises(StartRefusedError, match=f"api-source orders-api: {named}"):
        network(plan)


U = "url: 'https://api.test/items'"
EMPTY = page({"d": []})

WALKS: dict[str, tuple[str, list[Response], list[str]]] = {
    "a cursor of a header, in the query": (
        f"{U}, pagination: {{type: header_cursor, header: X-Next, param: c}}",
        [page({"d": items(0, 2)}, x_next="n2"), page({"d": items(2, 3)})],
        ["/items", "/items?c=n2"],
    ),
    "a cursor of a header, in the body": (
        f"{U}, method: POST, body: {{q: 1}},"
        " pagination: {type: header_cursor, header: X-Next, param: p.c, inject: body}",
        [page({"d": items(0, 2)}, x_next="n2"), page({"d": items(2, 3)})],
        ['/items {"q": 1}', '/items {"q": 1, "p": {"c": "n2"}}'],
    ),
    "a cursor in a header": (
        f"{U}, pagination: {{type: cursor, path: next, param: X-Cursor, inject: header}}",
        TWO,
        ["/items", "/items x-cursor: n2"],
    ),
    "a cursor in the body": (
        f"{U}, method: POST, pagination: {{type: cursor, path: next, param: after, inject: body}}",
        TWO,
        ["/items", '/items {"after": "n2"}'],
    ),
    "a cursor in the path": (
        "url: 'https://api.test/items/{c}',"
        " pagination: {type: cursor, path: next, param: c, inject: path}",
        TWO,
        ["/items/", "/items/n2"],
    ),
    "a cursor that is the next path": (
        f"{U}, params: {{size: '2'}},"
        " pagination: {type: cursor, path: next, param: c, inject: path}",
        [page({"d": items(0, 2), "next": "/items/p2"}), page({"d": items(2, 3)})],
        ["/items?size=2", "/items/p2"],
    ),
    "a cursor until an empty page": (
        f"{U}, pagination: {{type: cursor, path: next, param: c, stop_after_empty_page: true}}",
        [TWO[0], page({"d": items(2, 3), "next": "n3"}), page({"d": [], "next": "n4"})],
        ["/items", "/items?c=n2", "/items?c=n3"],
    ),
    "offset and limit": (
        f"{U}, pagination: {{type: offset, limit: 2, offset_param: from, limit_param: size}}",
        [page({"d": items(0, 2)}), page({"d": items(2, 3)}), EMPTY],
        ["/items?size=2&from=0", "/items?size=2&from=2", "/items?size=2&from=3"],
    ),
    "offset until a short page": (
        f"{U}, pagination: {{type: offset, limit: 2, start: 1, stop_after_empty_page: false}}",
        [page({"d": items(0, 2)}), page({"d": items(2, 3)})],
        ["/items?limit=2&offset=1", "/items?limit=2&offset=3"],
    ),
    "offset and limit at paths of the body": (
        f"{U}, method: POST, body: {{q: 1}}, pagination: {{type: offset, limit: 2,"
        " offset_body_path: page.at, limit_body_path: page.size, total_path: total}",
        [page({"d": items(0, 2), "total": 3}), page({"d": items(2, 3), "total": 3})],
        [
            '/items {"q": 1, "page": {"size": 2, "at": 0}}',
            '/items {"q": 1, "page": {"size": 2, "at": 2}}',
        ],
    ),
    "offset and limit in the body": (
        f"{U}, method: POST, pagination: {{type: offset, limit: 2, inject: body,"
        " has_more_path: more}",
        [page({"d": items(0, 2), "more": True}), page({"d": items(2, 3), "more": False})],
        ['/items {"limit": 2, "offset": 0}', '/items {"limit": 2, "offset": 2}'],
    ),
    "offset and limit in headers": (
        f"{U}, pagination: {{type: offset, limit: 2, inject: header, offset_param: X-At,"
        " limit_param: X-Size, end_path: end}",
        [page({"d": items(0, 2), "end": False}), page({"d": items(2, 3), "end": True})],
        ["/items x-size: 2 x-at: 0", "/items x-size: 2 x-at: 2"],
    ),
    "offset in the path": (
        "url: 'https://api.test/items/from/{offset}',"
        " pagination: {type: offset, limit: 2, inject: path, stop_after_empty_page: false}",
        [page({"d": items(0, 2)}), page({"d": items(2, 3)})],
        ["/items/from/0?limit=2", "/items/from/2?limit=2"],
    ),
    "offset and limit in the path": (
        "url: 'https://api.test/items/{offset}/{limit}',"
        " pagination: {type: offset, limit: 2, inject: path, stop_after_empty_page: false}",
        [page({"d": items(0, 2)}), page({"d": items(2, 3)})],
        ["/items/0/2", "/items/2/2"],
    ),
    "page and size in the path and the query": (
        "url: 'https://api.test/items/p{n}', pagination: {type: page, param: n, inject: path,"
        " size: 2, size_param: per_page, stop_after_empty_page: false}",
        [page({"d": items(0, 2)}), page({"d": items(2, 3)})],
        ["/items/p1?per_page=2", "/items/p2?per_page=2"],
    ),
    "page at a path of the body": (
        f"{U}, method: POST, pagination: {{type: page, start: 0, body_path: filter.page,"
        " total_pages_path: pages}",
        [page({"d": items(0, 2), "pages": 2}), page({"d": items(2, 3), "pages": 2})],
        ['/items {"filter": {"page": 0}}', '/items {"filter": {"page": 1}}'],
    ),
    "page and size in the body": (
        f"{U}, method: POST, pagination: {{type: page, inject: body, param: p.number, size: 2,"
        " size_param: p.size, has_more_path: more}",
        [page({"d": items(0, 2), "more": 1}), page({"d": items(2, 3), "more": 0})],
        ['/items {"p": {"size": 2, "number": 1}}', '/items {"p": {"size": 2, "number": 2}}'],
    ),
    "the last record, in the body": (
        f"{U}, method: POST, pagination: {{type: seek, param: after_id, path: id, inject: body,"
        " has_more_path: more}",
        [page({"d": items(0, 2), "more": True}), page({"d": items(2, 3), "more": False})],
        ["/items", '/items {"after_id": 1}'],
    ),
    "spans of time": (
        f"{U}, pagination: {{type: time_slice, from: '2023-11-12', step: 36h, from_param: since,"
        " to_param: until}",
        [page({"d": items(0, 2)}), page({"d": items(2, 3)})],
        [
            "/items?since=2023-11-12T00:00:00Z&until=2023-11-13T12:00:00Z",
            "/items?since=2023-11-13T12:00:00Z&until=2023-11-14T22:13:20Z",
        ],
    ),
    "spans of seconds": (
        f"{U}, pagination: {{type: time_slice, from: 2h, step: 1h, from_param: since,"
        " to_param: until, format: unix}",
        [page({"d": items(0, 2)}), page({"d": items(2, 3)})],
        [
            "/items?since=1699992800&until=1699996400",
            "/items?since=1699996400&until=1700000000",
        ],
    ),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_asks_what_the_config_says(name: str) -> None:
    api, answers, requests = WALKS[name]
    found, after = walk(api, answers)
    assert (found, after.reason) == (requests, "")
    assert after.keys == ["0", "1", "2"]
    assert after.incomplete == ""


CAPS: dict[str, tuple[str, int, str]] = {
    "max_pages": ("{type: page, max_pages: 2}", 2, "max_pages 2 is reached"),
    "max_page": ("{type: page, max_page: 3}", 3, "max_page 3 is reached"),
    "max_offset": ("{type: offset, limit: 2, max_offset: 5}", 3, "max_offset 5 is reached"),
    "max_offset, asked for": (
        "{type: offset, limit: 2, max_offset: 4}",
        3,
        "max_offset 4 is reached",
    ),
    "max_records, just reached": ("{type: page, max_records: 4}", 2, "max_records 4 is reached"),
    "max_records": ("{type: page, max_records: 3}", 2, "max_records 3 is reached"),
}


@pytest.mark.parametrize("name", CAPS)
def test_a_cap_ends_the_walk_as_incomplete(name: str) -> None:
    paging, pages, why = CAPS[name]
    answers = [page({"d": items(n * 2, n * 2 + 2)}) for n in range(9)]
    found, after = walk(f"{U}, pagination: {paging}", answers)
    assert len(found) == pages
    assert why in after.incomplete


def test_a_span_with_more_than_one_page_is_no_complete_walk() -> None:
    paging = "{type: time_slice, from: 3h, step: 1h, from_param: since, to_param: until}"
    more = page({"d": items(0, 2)}, link='<https://api.test/items?page=2>; rel="next"')
    found, after = walk(f"{U}, pagination: {paging}", [more])
    assert len(found) == 1
    assert "a shorter step is needed" in after.incomplete


def test_pages_wait_for_page_delay() -> None:
    paging = "{type: cursor, path: next, param: c, page_delay: 250ms}"
    _, after = walk(f"{U}, pagination: {paging}", TWO)
    assert after.slept == [0.25]


@pytest.mark.parametrize(("statuses", "requests"), [("[418, 5xx]", 3), ("['5XX']", 1)])
def test_the_statuses_that_are_retried_are_the_configs(statuses: str, requests: int) -> None:
    retry = f"retry: {{statuses: {statuses}, max_attempts: 3, backoff: 4s, max_backoff: 6s}}"
    found, after = walk(f"{U}, {retry}", [page({}, 418)] * 5)
    assert len(found) == requests
    assert "418" in after.reason
    bounds = [(2, 4), (3, 6)][: requests - 1]
    waits = zip(after.slept, bounds, strict=True)
    assert all(low <= wait <= high for wait, (low, high) in waits)


def test_a_parameter_of_the_config_replaces_the_one_in_the_url() -> None:
    url = "url: 'https://api.test/items?state=open&sort=id'"
    found, _ = walk(f"{url}, params: {{state: all, q: 'a b'}}", [page({"d": items(0, 1)})])
    assert found == ["/items?sort=id&state=all&q=a b"]


def test_the_user_of_the_url_signs_in_and_is_not_in_the_request() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        (asked,) = api.wire.asked
        assert asked.request.url == "https://api.test/items"
        assert asked.headers["authorization"] == "Basic " + b64encode("mé:p@ss".encode()).decode()

    config = configured("url: 'https://m%C3%A9:p%40ss@api.test/items'")
    run(story, lambda _: page({"d": items(0, 1)}), **config)


LOGIN = "login: {url: 'https://api.test/login', body: {user: me, pass: x}}"
AUTHS: dict[str, tuple[str, list[str]]] = {
    "key in the query": ("{type: api_key, in: query, name: key, value: k1}", ["/items?key=k1"]),
    "key in a header": ("{type: api_key, name: X-Key, value: k1}", ["/items x-key: k1"]),
    "session": (
        f"{{type: session, {LOGIN}, token_path: t.a, expires_in_path: t.ttl,"
        " inject: 'X-Session: s={token}'}",
        ['/login {"user": "me", "pass": "x"}', "/items x-session: s=tok"],
    ),
    "session of a GET": (
        "{type: session, login: {url: 'https://api.test/login?u=me', method: GET},"
        " token_path: t.a, inject: 'X-Session: {token}'}",
        ["/login?u=me", "/items x-session: tok"],
    ),
}


@pytest.mark.parametrize("name", AUTHS)
def test_credentials_go_where_the_config_says(name: str) -> None:
    auth, requests = AUTHS[name]

    def handler(asked: Asked) -> Response:
        login = asked.path == "/login"
        return page({"t": {"a": "tok", "ttl": 60}} if login else {"d": items(0, 1)})

    async def story(api: Api) -> None:
        await api.poll()
        assert [told(asked) for asked in api.wire.asked] == requests
        api.clock.advance(53_000)  # a tenth of its life before the end it is asked for anew
        await api.poll()
        assert len(api.wire.asked) == 1
        api.clock.advance(2_000)
        await api.poll()
        assert len(api.wire.asked) == (len(requests) if "expires_in_path" in auth else 1)

    run(story, handler, **configured(f"{U}, auth: {auth}"))


def form_of(auth: str) -> tuple[dict[str, str], dict[str, str], str]:
    """(form, headers, path) of the token request that this auth makes."""
    seen: list[Asked] = []

    def handler(asked: Asked) -> Response:
        seen.append(asked)
        return page({"access_token": "tok", "d": items(0, 1)})

    async def story(api: Api) -> None:
        await api.poll()
        assert seen[1].headers["authorization"] == "Bearer tok"

    run(story, handler, **configured(f"{U}, auth: {auth}"))
    return seen[0].form, seen[0].headers, urlsplit(seen[0].request.url).path


CLIENT = "token_url: 'https://api.test/token', client_id: me, client_secret: s"


def test_a_client_asks_for_scopes_and_with_its_own_parameters() -> None:
    form, headers, path = form_of(
        f"{{type: oauth2_client_credentials, {CLIENT}, scopes: [a, b], params: {{audience: x}}}}"
    )
    assert path == "/token"
    assert form == {"grant_type": "client_credentials", "scope": "a b", "audience": "x"}
    assert headers["authorization"].startswith("Basic ")


def test_a_refresh_takes_scopes_and_parameters_too() -> None:
    form, headers, _ = form_of(
        f"{{type: oauth2_refresh_token, {CLIENT}, refresh_token: r, auth_style: body,"
        " scopes: [offline], params: {resource: x}}"
    )
    assert form == {
        "grant_type": "refresh_token", "refresh_token": "r", "scope": "offline",
        "resource": "x", "client_id": "me", "client_secret": "s",
    }  # fmt: skip
    assert "authorization" not in headers


def test_a_parameter_may_name_another_grant() -> None:
    form, _, _ = form_of(
        f"{{type: oauth2_client_credentials, {CLIENT}, params: {{grant_type: password,"
        " username: u, password: p}}"
    )
    assert form == {"grant_type": "password", "username": "u", "password": "p"}


MOVED = "Tue, 14 Nov 2023 10:00:00 GMT"


def test_an_answer_without_an_etag_is_asked_for_by_its_date() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = lambda _: page(b"", 304)
        assert await api.poll() == []
        assert api.ok
        assert api.wire.asked[0].headers["if-modified-since"] == MOVED
        assert "if-none-match" not in api.wire.asked[0].headers

    answer = page({"d": items(0, 2)}, last_modified=MOVED)
    run(story, lambda _: answer, **configured(f"{U}, watermark: {{strategy: etag}}"))


SINCE: dict[str, tuple[str, str]] = {
    "query": ("{strategy: cursor, path: next, param: since}", "/items?since=n2"),
    "header": ("{strategy: cursor, path: next, header: X-Since}", "/items x-since: n2"),
    "body": ("{strategy: cursor, path: next, body_path: q.since}", '/items {"q": {"since": "n2"}}'),
}


@pytest.mark.parametrize("place", SINCE)
def test_a_cursor_watermark_goes_where_the_config_says(place: str) -> None:
    watermark, request = SINCE[place]

    async def story(api: Api) -> None:
        await api.poll()
        await api.poll()
        assert [told(asked) for asked in api.wire.asked] == [request]

    config = f"{U}, method: POST, full_sweep_interval: 6h, watermark: {watermark}"
    run(story, lambda _: page({"d": items(0, 2), "next": "n2"}), **configured(config))
