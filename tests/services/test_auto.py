"""`pagination: auto`: found out from the first answer, told once, never a silently short list."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.service import Service
from tests.services.shapes import (
    GitHub,
    HubSpot,
    OData,
    Rates,
    Salesforce,
    Shopify,
    Slack,
    Stations,
)
from tests.services.shapes import Stripe as NoWayOn

GUESSED = (GitHub, Shopify, Slack, Salesforce, HubSpot, OData, Stations, Rates)
"""APIs that show how they go on. Stations and rates have one page, and nothing to find."""


@pytest.fixture(scope="module")
def rig(launch_shared: Launcher) -> Iterator[Rig]:
    with ExitStack() as stack:
        services: list[Service] = [stack.enter_context(shape()) for shape in GUESSED]
        yield Rig(launch_shared, services, pagination={"type": "auto"})


@pytest.mark.parametrize("number", range(len(GUESSED)), ids=[shape.name for shape in GUESSED])
def test_what_an_api_shows_is_found_and_followed(rig: Rig, number: int) -> None:
    service = rig.services[number]
    rig.settle(service)
    service.wait_complete(2)
    gone = service.remove(4) if service.paged else ""
    rig.settle(service)
    assert gone not in rig.state(service)
    assert rig.failures(service) == 0
    if service.paged:
        assert len(rig.lines(f"api-source {service.name}:", "pagination")) == 1


def test_a_list_that_goes_on_in_an_unknown_way_is_told_and_deletes_nothing(
    launch: Launcher,
) -> None:
    with NoWayOn() as service:
        rig = Rig(launch, [service], pagination={"type": "auto"})
        eventually(lambda: rig.lines("WARN", service.name, "has_more"), 20)
        with Subscriber(rig.at.url) as stream:
            service.remove(0)
            walks = service.walks
            eventually(lambda: service.walks > walks + 2)
            assert [r for r in stream.results() if r["op"] == "delete"] == []
