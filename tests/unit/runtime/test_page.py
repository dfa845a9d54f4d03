"""GET /: who gets the live page, and that nothing in it can be made to run what strangers sent."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from litejoin.runtime import page
from litejoin.runtime.page import PageApp, page_headers
from litejoin.runtime.server import Listeners
from tests.unit.runtime.serving import ROW, TOKENS, Client, Reply, ask, get, plan, post, serving

FILE = Path(page.__file__).with_name("page.html")
PAGE = FILE.read_bytes()


def with_page(listeners: Listeners) -> None:
    listeners.add(plan().addr, "GET", "/", PageApp(), None)


def policy_of(reply: Reply) -> dict[str, str]:
    parts = reply.headers["content-security-policy"].split("; ")
    return {name: rest for name, _, rest in (part.partition(" ") for part in parts)}


class Elements(HTMLParser):
    """Every element with its attributes, and the text of those that are wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(PAGE.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_it_is_served_whole_with_its_policy() -> None:
    with serving(add=with_page) as server:
        reply = ask(server.port, get("/"))
        assert (reply.status, reply.body) == (200, PAGE)
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        policy = policy_of(reply)
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in reply.headers["content-security-policy"]


@pytest.mark.parametrize("element", ["script", "style"])
def test_the_policy_lets_in_what_stands_in_the_file_and_no_more(element: str) -> None:
    (text,) = re.findall(rb"<%b>(.*?)</%b>" % ((element.encode(),) * 2), PAGE, re.DOTALL)
    wanted = base64.b64encode(hashlib.sha256(text).digest()).decode()
    with serving(add=with_page) as server:
        assert policy_of(ask(server.port, get("/")))[f"{element}-src"] == f"'sha256-{wanted}'"


def test_a_second_script_is_no_page_of_ours() -> None:
    with pytest.raises(ValueError, match="too many values"):
        page_headers(PAGE.decode().replace("</body>", "<script>1</script></body>"))


def test_the_file_is_small_and_needs_nothing_from_elsewhere() -> None:
    assert len(PAGE) < 25 * 1024
    assert b"\r" not in PAGE, "a browser would hash other bytes than we do"
    addresses = set(re.findall(rb"\w+://[^\s\"'`]+", PAGE))
    assert addresses == {b"http://www.w3.org/2000/svg"}, "a name space, not a place"
    for tag, attributes in Elements().found:
        assert tag not in {"link", "img", "iframe", "base", "object", "embed"}
        assert not {"src", "href", "action", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "sink", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
)
def test_data_can_only_become_text(sink: str) -> None:
    assert sink.encode() not in PAGE


@pytest.mark.parametrize("keep", ["localStorage", "sessionStorage", "cookie", "access_token"])
def test_the_token_is_kept_nowhere_and_is_in_no_address(keep: str) -> None:
    assert keep.encode() not in PAGE


def test_it_takes_get_and_head_only() -> None:
    with serving(add=with_page) as server:
        with Client(server.port) as client:
            client.send(get("/", "Connection: close", method="HEAD"))
            head, _, body = client.rest().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: %d" % len(PAGE) in head
        assert body == b""
        for method in ("POST", "PUT", "DELETE"):
            reply = ask(server.port, post(b"{}", path="/").replace(b"POST", method.encode(), 1))
            assert (reply.status, reply.headers["allow"]) == (405, "GET")


def test_it_is_there_without_a_token_and_opens_nothing_else() -> None:
    with serving(add=with_page, server=plan(tokens=TOKENS)) as server:
        assert ask(server.port, get("/")).body == PAGE
        assert ask(server.port, get("/", "Authorization: Bearer nobody")).body == PAGE
        assert ask(server.port, get("/health")).json() == {"status": "ok"}
        assert ask(server.port, post(ROW)).status == 401


def test_another_host_name_on_loopback_gets_no_page() -> None:
    with serving(add=with_page) as server:
        assert ask(server.port, get("/", host="evil.example")).status == 403


def test_it_takes_no_path_of_the_pushes_that_share_its_address() -> None:
    with serving(add=with_page) as server:
        assert ask(server.port, post(ROW)).status == 200
        assert ask(server.port, get("/page.html")).status == 404
        assert ask(server.port, get("//")).status == 404
