"""Every example of `examples/apis/` against a server of its shape, in one pipeline.

The topic equals the service, an edit, an insert and a removal come out as exactly that, and a page
that fails deletes nothing.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.results import canonical
from tests.harness.scripted import Reply
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import EXAMPLES, Rig
from tests.services.service import Service
from tests.services.shapes import ALL, Salesforce, Stations


@pytest.fixture(scope="module")
def rig(launch_shared: Launcher) -> Iterator[Rig]:
    with ExitStack() as stack:
        services = [stack.enter_context(shape()) for shape in ALL]
        yield Rig(launch_shared, services)


@pytest.fixture(params=range(len(ALL)), ids=[shape.name for shape in ALL])
def service(request: pytest.FixtureRequest, rig: Rig) -> Service:
    return rig.services[request.param]


def test_every_example_has_its_service() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == {shape.name for shape in ALL}


def test_the_topic_equals_the_service(rig: Rig, service: Service) -> None:
    rig.settle(service)


def test_one_change_upstream_is_one_result(rig: Rig, service: Service) -> None:
    rig.settle(service)
    topic = rig.topics[service.name]
    before = service.contents()
    with Subscriber(rig.at.url, topic) as stream:
        want = change(service)
        rig.settle(service)
        service.wait_complete(2)
        rig.settle(service)
        told = [(r["key"], op_of(r)) for r in stream.results()]
    assert sorted(told) == sorted(want)
    updated = [r for r in stream.results() if op_of(r) == "updated"]
    for result in updated:
        changes = json.loads(result["rows"][0]["changes"])
        after = service.contents()[result["key"]]
        assert undo(after, changes) == canonical(before[result["key"]])


def change(service: Service) -> list[tuple[str, str]]:
    """Change a service in every way it knows; returns the (key, op) it must come out as."""
    if len(service.records) == 1:
        return [(key, "updated") for key in service.edit(0)]
    edited = [(key, "updated") for key in service.edit(0, len(service.records) - 1)]
    made = [(service.insert(3, 60), "created")]
    # An export of what changed never shows what is gone.
    gone = [] if service.resumes else [(service.remove(5), "delete")]
    return edited + made + gone


def op_of(result: dict[str, Any]) -> str:
    return "delete" if result["op"] == "delete" else str(result["rows"][0]["op"])


def undo(record: dict[str, Any], changes: dict[str, list[Any]]) -> str:
    """The record before its `changes`, which these services only make in names and indexes."""
    record = json.loads(json.dumps(record))
    for path, (before, after) in changes.items():
        *way, last = [part.strip('"') for part in path.removeprefix("$.").split(".")]
        inner = record
        for name in way:
            inner = inner[name]
        assert canonical(inner.get(last)) == canonical(after)
        if before is None and last == "note":
            del inner[last]
        else:
            inner[last] = before
    return canonical(record)


def test_a_page_that_fails_for_good_changes_nothing(rig: Rig, service: Service) -> None:
    rig.settle(service)
    number = 1 if len(service.records) == 1 or not service.paged or service.resumes else 2
    failed = rig.failures(service)
    with Subscriber(rig.at.url, rig.topics[service.name]) as stream:
        service.on_page(number, *[Reply(500, b"<html>Oops</html>")] * 3)
        eventually(lambda: rig.failures(service) > failed, 20)
        assert "WARN" in rig.lines(f"api-source {service.name}: poll failed")[-1]
        service.calm()
        service.wait_complete(2)
        rig.settle(service)
        assert stream.results() == []


def test_an_unchanged_array_costs_a_304(rig: Rig) -> None:
    stations = next(s for s in rig.services if isinstance(s, Stations))
    rig.settle(stations)
    before = stations.not_modified
    eventually(lambda: stations.not_modified >= before + 3)
    rig.settle(stations)


def test_a_token_that_ends_early_is_renewed_once(rig: Rig) -> None:
    service = next(s for s in rig.services if isinstance(s, Salesforce))
    rig.settle(service)
    failed, issued = rig.failures(service), service.issued
    service.expire()
    service.wait_complete(2)
    rig.settle(service)
    assert rig.failures(service) == failed
    assert service.issued == issued + 2  # the one that was withdrawn, and its successor


def test_nothing_secret_is_shown(rig: Rig) -> None:
    rig.settle()
    shown = rig.pipeline.output() + rig.log() + json.dumps(rig.health())
    for service in rig.services:
        for value in service.secrets.values():
            assert value not in shown
    rig.pipeline.assert_running()
