"""kill -9 in the middle of walks: a page that is walked again makes no change, and none is lost."""

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.results import Delivered, canonical
from tests.harness.scripted import Reply
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.service import Service
from tests.services.shapes import HubSpot, Zendesk


def slow(reply: Reply) -> Reply:
    return Reply(reply.status, reply.body, reply.headers, delay_s=0.02)


def ids(rig: Rig, service: Service) -> dict[str, str]:
    """Key -> id of its latest result: another id would be another result."""
    return {r["key"]: r["id"] for r in snapshot(rig.at.url, rig.topics[service.name]).results}


@pytest.mark.parametrize("shape", [Zendesk, HubSpot], ids=lambda shape: shape.name)
def test_a_kill_in_the_middle_of_a_walk_repeats_nothing(
    launch: Launcher, shape: type[Service]
) -> None:
    """Killed at another page each time; what was told stands, what was not comes once."""
    with shape(80, 4) as service:
        for page in range(1, 21):
            service.on_page(page, *[slow] * 20)
        rig = Rig(launch, [service])
        told: dict[str, str] = {}
        for page in (3, 14, 20):
            service.wait_requests(len(service.seen()) + page, 30)
            eventually(lambda: snapshot(rig.at.url).status == 200)
            told |= ids(rig, service)
            rig.pipeline.restart()
            now = ids(rig, service)
            assert {key: now.get(key) for key in told} == told
        service.calm()
        rig.settle(timeout_s=30)
        service.wait_complete(2)
        now = ids(rig, service)
        assert {key: now.get(key) for key in told} == told
        with Subscriber(rig.at.url, rig.topics[service.name]) as stream:
            edited = service.edit(7)
            stream.wait_results(1)
            service.wait_complete(2)
            assert [r["key"] for r in stream.results()] == edited


def test_a_kill_between_edits_neither_loses_nor_repeats_one(launch: Launcher) -> None:
    """Edits go on while the process is killed; the receiver hears every final value."""
    with Zendesk(40, 4) as service:
        rig = Rig(launch, [service], interval="50ms").settle()
        topic = rig.topics[service.name]
        delivered = Delivered(repeats=True)
        position = ""
        for number in range(3):
            with Subscriber(
                rig.at.url, topic, last_event_id=position or None, replay=not position
            ) as stream:
                if not position:
                    stream.wait(lambda s: s.named("replay_complete"))
                service.edit(number, number + 10, number + 20)
                walks = service.walks
                eventually(lambda n=walks: service.walks > n, every_s=0.001)
                rig.pipeline.kill()
                stream.wait_closed()
                results = stream.results()
                for result in results:
                    result.pop("_replay", None)
                delivered.take(results)
                position = stream.last_id
            rig.pipeline.start()
        with Subscriber(rig.at.url, topic, last_event_id=position) as stream:
            rig.settle(timeout_s=30)
            service.wait_complete(2)
            rig.settle()
            expected = len(service.contents())
            eventually(lambda: len(ids(rig, service)) == expected)
            delivered.take(stream.results())
        want = {key: [row] for key, row in rows(rig, service).items()}
        got = {key.strip('"'): list(value) for key, value in delivered.state(topic).items()}
        assert got == want


def rows(rig: Rig, service: Service) -> dict[str, str]:
    found = snapshot(rig.at.url, rig.topics[service.name]).results
    return {r["key"]: canonical(r["rows"][0]) for r in found}
