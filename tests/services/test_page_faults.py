"""Page 3 of 5 fails in every way: nothing is deleted, nothing is repeated, the next walk is fine.

Four kinds of pagination side by side in one pipeline, every fault on all of them at once.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.scripted import Reply, json_reply
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.service import Fault
from tests.services.shapes import GitHub, HubSpot, Inventory, Salesforce

SHAPES = (HubSpot, GitHub, Salesforce, Inventory)
LISTS = ("results", "records", "items")
ONCE = {"max_attempts": 1}


def cut(reply: Reply) -> Reply:
    """The page, cut on the wire half way."""
    return Reply(200, reply.body, reply.headers, cut_after=len(reply.body) // 2)


def half(reply: Reply) -> Reply:
    """Half of the page as if it were all."""
    return Reply(200, reply.body[: len(reply.body) // 2], reply.headers)


def emptied(reply: Reply) -> Reply:
    """The page without its records, its way to the next page kept."""
    body = json.loads(reply.body)
    if isinstance(body, list):
        return Reply(200, b"[]", reply.headers)
    body |= {name: [] for name in LISTS if name in body}
    return Reply(200, json.dumps(body).encode(), reply.headers)


def ended(reply: Reply) -> Reply:
    """An empty page that says it is the last: the walk looks complete and is not."""
    body = json.loads(emptied(reply).body)
    if isinstance(body, list):
        return json_reply([])
    for name in ("paging", "nextRecordsUrl"):
        body.pop(name, None)
    return json_reply(body)


FAILING: dict[str, Fault] = {
    "status 500": Reply(500, b'{"error": "boom"}'),
    "status 503": Reply(503),
    "status 404": Reply(404, b"{}"),
    "status 410": Reply(410, b"{}"),
    "status 400": Reply(400, b'{"message": "cursor expired"}'),
    "no content": Reply(204),
    "partial content": lambda reply: Reply(206, reply.body, reply.headers),
    "redirect to a login": Reply(302, headers={"Location": "/login"}),
    "timeout": Reply(hang=True),
    "reset": Reply(reset=True),
    "cut body": cut,
    "half a document": half,
    "HTML": Reply(200, b"<html>Please log in</html>", {"Content-Type": "text/html"}),
    "empty object": json_reply({}),
    "null": json_reply(None),
    "empty body": Reply(200),
    "an error with 200": json_reply({"error": "rate limited"}),
    "a tail": lambda reply: Reply(200, reply.body + b"}", reply.headers),
}
"""Faults that every pagination can see for what they are."""


@pytest.fixture(scope="module")
def rig(launch_shared: Launcher) -> Iterator[Rig]:
    with ExitStack() as stack:
        services = [stack.enter_context(shape(100, 20)) for shape in SHAPES]
        rig = Rig(launch_shared, services, interval="100ms", timeout="600ms", retry=ONCE)
        yield rig.settle()


@pytest.mark.parametrize("fault", FAILING.values(), ids=FAILING.keys())
def test_a_bad_page_fails_its_walk_and_changes_nothing(rig: Rig, fault: Fault) -> None:
    before = [rig.failures(service) for service in rig.services]
    with Subscriber(rig.at.url) as stream:
        for service in rig.services:
            # A reset on a kept connection may be met by one fresh attempt.
            service.on_page(3, *[fault] * (2 if fault == Reply(reset=True) else 1))
        for service, count in zip(rig.services, before, strict=True):
            eventually(lambda s=service, n=count: rig.failures(s) > n, 20)
            assert "page 3" in rig.lines(f"api-source {service.name}: poll failed")[-1]
        recovers(rig, stream)


def test_a_page_that_says_it_is_the_last_deletes_nothing(rig: Rig) -> None:
    """Page 3 of 5, empty, without a way on: 60 of 100 records look gone."""
    with Subscriber(rig.at.url) as stream:
        for service in rig.services:
            service.on_page(3, ended)
        for service in rig.services:
            eventually(lambda s=service: not s._on_page[3])
        recovers(rig, stream)


def recovers(rig: Rig, stream: Subscriber) -> None:
    """Nothing was said, and the next change is."""
    for service in rig.services:
        service.calm()
        service.wait_complete(2)
    assert stream.results() == []
    edited = {key for service in rig.services for key in service.edit(50)}
    stream.wait(lambda s: {r["key"] for r in s.results()} >= edited, 20)
    assert [r["op"] for r in stream.results()] == ["upsert"] * len(rig.services)
    rig.pipeline.assert_running()


def test_a_page_that_fails_once_is_tried_again(launch: Launcher) -> None:
    with HubSpot(100, 20) as service:
        retry = {"max_attempts": 3, "backoff": "50ms"}
        rig = Rig(launch, [service], retry=retry).settle()
        service.on_page(3, Reply(500), Reply(503))
        eventually(lambda: not service._on_page[3])
        service.wait_complete(1)
        assert rig.failures(service) == 0
        rig.settle()


def test_a_cursor_that_loops_ends_the_walk(launch: Launcher) -> None:
    """The fourth page leads back to the second, for ever."""
    with HubSpot(100, 20) as service:
        rig = Rig(launch, [service], interval="1s", retry=ONCE).settle()
        back = service.key_of(service.records[19])

        def loop(reply: Reply) -> Reply:
            body = json.loads(reply.body)
            return json_reply({**body, "paging": {"next": {"after": back}}})

        with Subscriber(rig.at.url) as stream:
            service.on_page(4, *[loop] * 2)
            asked = len(service.seen())
            eventually(lambda: rig.lines("WARN", service.name, "incomplete"))
            assert len(service.seen()) - asked < 30
            service.calm()
            service.wait_complete(2)
            assert stream.results() == []


def test_a_total_that_changes_between_pages_deletes_nothing(launch: Launcher) -> None:
    with Inventory(30, 6) as service:
        rig = Rig(launch, [service]).settle()

        def other_total(reply: Reply) -> Reply:
            body = json.loads(reply.body)
            return json_reply({**body, "items": body["items"][:3], "total": body["total"] - 3})

        with Subscriber(rig.at.url) as stream:
            for _ in range(2):
                service.on_page(3, *[other_total] * 4)
                eventually(lambda: not service._on_page[3])
            service.wait_complete(2)
            assert [r for r in stream.results() if r["op"] == "delete"] == []
        rig.settle()
