"""Walks that look complete and are not, and a list that contradicts itself."""

import json

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.scripted import Reply, json_reply
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.shapes import GitHub, HubSpot, Salesforce
from tests.services.test_page_faults import ONCE, emptied
from tests.services.test_walks import Churn


@pytest.mark.parametrize("shape", [HubSpot, Salesforce], ids=lambda shape: shape.name)
def test_a_page_in_the_middle_that_lost_its_records_deletes_nothing(
    launch: Launcher, shape: type[HubSpot | Salesforce]
) -> None:
    """Page 3 of 5 is empty and leads on to page 4: 20 of 100 records look gone."""
    with shape(100, 20) as service:
        rig = Rig(launch, [service], retry=ONCE).settle()
        with Subscriber(rig.at.url) as stream:
            service.on_page(3, emptied)
            eventually(lambda: not service._on_page[3])
            service.wait_complete(2)
            assert stream.results() == []


def test_page_numbers_behind_a_link_header_shift_like_any_others(launch: Launcher) -> None:
    """GitHub's next link is ?page=3: what one walk missed is not gone."""
    with GitHub(40, 8) as service:
        rig = Rig(launch, [service], interval="50ms").settle()
        churn = Churn(service)
        with Subscriber(rig.at.url) as stream:
            for _ in range(25):
                service.on_page(2, churn.shift)
                eventually(lambda: not service._on_page[2], 20)
                service.wait_complete(1)
            rig.settle(timeout_s=30)
            service.wait_complete(3)
            churn.check(stream.results())


def test_a_key_twice_in_one_walk_does_not_flap(launch: Launcher) -> None:
    """The second page repeats a record of the first with another content, walk after walk."""
    with HubSpot(9, 3) as service:

        def repeat(reply: Reply) -> Reply:
            body = json.loads(reply.body)
            twin = dict(service.records[0]) | {"archived": True}
            return json_reply({**body, "results": [*body["results"], twin]})

        service.on_page(2, *[repeat] * 1000)
        rig = Rig(launch, [service])
        key = service.key_of(service.records[0])
        eventually(lambda: len(rig.state(service)) == 9)
        assert rig.state(service)[key]["archived"] is True
        with Subscriber(rig.at.url) as stream:
            service.wait_complete(4)
            assert stream.results() == []
