"""The fake services themselves: walked by hand, as the real services' manuals say, each shows every
record once and refuses who is not allowed in.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest
import urllib3

from tests.harness.scripted import Reply, json_reply
from tests.services.service import Service
from tests.services.shapes import ALL, Salesforce, Stations, Zendesk

Body = Any
Ask = tuple[str, Body]
"""A URL and the JSON to post to it, None for a GET."""


def linked(response: urllib3.BaseHTTPResponse, url: str, body: Body) -> Ask | None:
    for link in response.headers.get("link", "").split(", "):
        target, _, rel = link.partition("; ")
        if rel == 'rel="next"':
            return target.strip("<>"), None
    return None


def after(path: Callable[[Body], Any], param: str) -> Callable[..., Ask | None]:
    def following(response: urllib3.BaseHTTPResponse, url: str, body: Body) -> Ask | None:
        value = path(body)
        return (f"{url.partition('?')[0]}?{urlencode({param: value})}", None) if value else None

    return following


def named(field: str) -> Callable[..., Ask | None]:
    def following(response: urllib3.BaseHTTPResponse, url: str, body: Body) -> Ask | None:
        return (urljoin(url, body[field]), None) if field in body else None

    return following


def graphql(response: urllib3.BaseHTTPResponse, url: str, body: Body) -> Ask | None:
    info = body["data"]["issues"]["pageInfo"]
    if not info["hasNextPage"]:
        return None
    return url, {"query": "issues", "variables": {"after": info["endCursor"]}}


def ended(response: urllib3.BaseHTTPResponse, url: str, body: Body) -> Ask | None:
    return None


NEXT: dict[str, tuple[str, Callable[..., Ask | None]]] = {
    "github-issues": ("", linked),
    "shopify-products": ("products", linked),
    "stripe-charges": (
        "data",
        after(lambda body: body["has_more"] and body["data"][-1]["id"], "starting_after"),
    ),
    "slack-users": ("members", after(lambda b: b["response_metadata"]["next_cursor"], "cursor")),
    "salesforce-accounts": ("records", named("nextRecordsUrl")),
    "zendesk-tickets": (
        "tickets",
        after(lambda body: not body["end_of_stream"] and body["after_cursor"], "cursor"),
    ),
    "hubspot-contacts": (
        "results",
        after(lambda body: body.get("paging", {}).get("next", {}).get("after"), "after"),
    ),
    "graphql-issues": ("data.issues.nodes", graphql),
    "stations-array": ("", ended),
    "rates-object": ("", ended),
    "odata-customers": ("value", named("@odata.nextLink")),
    "inventory-offset": (
        "items",
        after(lambda b: b["items"] and b["offset"] + len(b["items"]), "offset"),
    ),
    "orders-pages": ("orders", lambda *_: None),
}


@pytest.fixture(params=ALL, ids=[shape.name for shape in ALL])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with request.param() as server:
        yield server


def ask(service: Service, url: str, body: Body = None, **more: str) -> urllib3.BaseHTTPResponse:
    headers = {**service.needs, **more}
    if body is None and service.name == "graphql-issues":
        body = {"query": "issues", "variables": {}}
    method = "GET" if body is None else "POST"
    data = None if body is None else json.dumps(body).encode()
    return urllib3.request(method, url, headers=headers, body=data, retries=False, timeout=5.0)


def login(service: Salesforce) -> dict[str, str]:
    form = dict(zip(("client_id", "client_secret"), service.secrets.values(), strict=True))
    body = urlencode({"grant_type": "client_credentials", **form})
    reply = urllib3.request("POST", service.url + service.token_path, body=body, retries=False)
    return {"authorization": f"Bearer {reply.json()['access_token']}"}


def walk(service: Service) -> list[Any]:
    """All records, page after page."""
    path, following = NEXT[service.name]
    more = login(service) if isinstance(service, Salesforce) else {}
    records: list[Any] = []
    asking: Ask | None = (service.url + service.path, None)
    for number in range(1, 100):
        if asking is None:
            return records
        response = ask(service, *asking, **more)
        assert response.status == 200, response.data
        body = response.json()
        shown = body
        for name in path.split(".") if path else []:
            shown = shown[name]
        records += shown if isinstance(shown, list) else [shown]
        url = asking[0]
        asking = following(response, url, body)
        if service.name == "orders-pages" and number < body["meta"]["total_pages"]:
            asking = (f"{service.url}{service.path}?page={number + 1}", None)
    raise AssertionError("the walk never ends")


def test_a_walk_by_the_manual_shows_every_record_once(service: Service) -> None:
    assert {service.key_of(r): r for r in walk(service)} == service.contents()
    assert len(walk(service)) == len(service.records)


def test_walks_and_pages_are_counted(service: Service) -> None:
    walk(service)
    first = service.completed
    assert first >= 1
    service.on_page(1, Reply(500))
    with pytest.raises(AssertionError):
        walk(service)
    assert service.completed == first
    walk(service)
    assert service.completed > first


def test_edits_inserts_and_removals_show(service: Service) -> None:
    if len(service.records) > 1:
        service.remove(4)
        service.insert(2, 77)
    changed = service.edit(0)
    assert {service.key_of(r): r for r in walk(service)} == service.contents()
    assert changed[0] in service.contents()


@pytest.mark.parametrize("shape", [shape for shape in ALL if shape.needs], ids=lambda s: s.name)
def test_who_brings_no_credentials_gets_no_records(shape: type[Service]) -> None:
    with shape() as service:
        reply = urllib3.request("GET", service.url + service.path, retries=False)
        assert b'"id"' not in reply.data


def test_a_fault_hits_the_page_it_is_put_on_and_only_once() -> None:
    with Salesforce() as service:
        headers = login(service)
        service.on_page(3, Reply(503), lambda reply: json_reply({"was": len(reply.body) > 0}))
        url = service.url + service.path
        for number in (1, 2):
            response = ask(service, url, **headers)
            assert response.status == 200, number
            url = urljoin(url, response.json()["nextRecordsUrl"])
        assert ask(service, url, **headers).status == 503
        assert ask(service, url, **headers).json() == {"was": True}
        assert ask(service, url, **headers).json()["done"] is True


def test_an_unchanged_array_is_304_to_who_knows_it() -> None:
    with Stations() as service:
        etag = ask(service, service.url + service.path).headers["etag"]
        assert ask(service, service.url + service.path, **{"if-none-match": etag}).status == 304
        service.edit(0)
        assert ask(service, service.url + service.path, **{"if-none-match": etag}).status == 200
        assert service.not_modified == 1


def test_an_edit_comes_again_behind_the_cursor_of_before() -> None:
    with Zendesk() as service:
        url = service.url + service.path
        for _ in range(3):
            body = ask(service, url).json()
            url = body["after_url"]
        assert body["end_of_stream"]
        assert ask(service, url).json()["tickets"] == []
        edited = service.edit(2)
        assert [str(t["id"]) for t in ask(service, url).json()["tickets"]] == edited


CURSORS = {
    "shopify-products": "page_info",
    "stripe-charges": "starting_after",
    "slack-users": "cursor",
    "zendesk-tickets": "cursor",
    "hubspot-contacts": "after",
    "odata-customers": "$skiptoken",
}


@pytest.mark.parametrize("name", CURSORS)
def test_a_cursor_that_was_never_given_out_is_refused(name: str) -> None:
    shape = next(shape for shape in ALL if shape.name == name)
    with shape() as service:
        url = f"{service.url}{service.path}?{urlencode({CURSORS[name]: 'nonsense!'})}"
        assert ask(service, url).status == 400
