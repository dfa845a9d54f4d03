"""Walks while the list changes under them: no false delete, no re-insert, no flapping."""

import json
import random
from collections import Counter
from typing import Any

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.results import Delivered
from tests.harness.scripted import Reply, json_reply
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.service import Service
from tests.services.shapes import HubSpot, Inventory, Orders, Stations


class Churn:
    """Lets a record come or go near the front of a list while its pages are being shown."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.removed: set[str] = set()
        self.inserted: set[str] = set()
        self._dice = random.Random(20260201)
        self._number = 1000

    def shift(self, reply: Reply) -> Reply:
        service, dice = self.service, self._dice
        if dice.random() < 0.5 and len(service.records) > 34:
            self.removed.add(service.remove(dice.randrange(8)))
        else:
            self._number += 1
            self.inserted.add(service.insert(dice.randrange(8), self._number))
        return reply

    def check(self, told: list[dict[str, Any]]) -> None:
        """Only what went was deleted, only what came was created, each once."""
        Delivered(from_start=False).take(told)
        deletes = Counter(r["key"] for r in told if r["op"] == "delete")
        creates = Counter(
            r["key"] for r in told if r["op"] == "upsert" and r["rows"][0]["op"] == "created"
        )
        assert set(deletes) <= self.removed, "a record that is there was deleted"
        assert set(creates) <= self.inserted, "a record that was there was inserted again"
        assert max([*deletes.values(), *creates.values()], default=1) == 1


def test_shifts_in_every_walk_never_delete_what_is_there(launch: Launcher) -> None:
    """50 walks by offset with a total; each shifts after its second and its fourth page."""
    with Inventory(40, 8) as service:
        rig = Rig(launch, [service], interval="50ms").settle()
        churn = Churn(service)
        with Subscriber(rig.at.url) as stream:
            goal = service.walks + 50
            while service.walks < goal:
                service.on_page(2, churn.shift)
                service.on_page(4, churn.shift)
                eventually(lambda: not service._on_page[2] and not service._on_page[4], 20)
            service.calm()
            rig.settle(timeout_s=30)
            service.wait_complete(3)
            churn.check(stream.results())


def test_pages_that_shift_in_every_second_walk_never_delete_what_is_there(
    launch: Launcher,
) -> None:
    """Page numbers and no total: a record that one walk missed is on the next, so it stays."""
    with Orders(40, 8) as service:
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


def test_a_key_twice_in_one_walk_is_one_record_and_is_told(launch: Launcher) -> None:
    """The second page repeats a record of the first."""
    with HubSpot(9, 3) as service:

        def repeat(reply: Reply) -> Reply:
            body = json.loads(reply.body)
            return json_reply({**body, "results": [*body["results"], service.records[0]]})

        service.on_page(2, *[repeat] * 1000)
        rig = Rig(launch, [service]).settle()
        with Subscriber(rig.at.url) as stream:
            service.wait_complete(4)
            assert stream.results() == []
        assert rig.lines("WARN", "repeat"), "nobody was told"


def test_an_empty_list_after_a_thousand_rows_is_held_until_it_is_said_again(
    launch: Launcher,
) -> None:
    with Stations(1000) as service:
        rig = Rig(launch, [service]).settle()
        everything = list(service.records)
        with Subscriber(rig.at.url) as stream:
            service.on_page(1, Reply(200, b"[]"))
            eventually(lambda: rig.lines("WARN", service.name))
            service.wait_complete(2)
            assert stream.results() == []
            service.set([])
            eventually(lambda: rig.state(service) == {}, 20)
            service.set(everything)
            rig.settle()


def test_a_server_that_caps_the_page_size_loses_nothing(launch: Launcher) -> None:
    """Asked for 100, the server shows 3: an offset that moves by what was asked for skips 97."""
    with Inventory(20, 3) as service:
        pagination = {"type": "offset", "limit": 100, "total_path": "total"}
        rig = Rig(launch, [service], pagination=pagination).settle()
        with Subscriber(rig.at.url) as stream:
            service.wait_complete(3)
            assert stream.results() == []


@pytest.mark.parametrize("cap", [{"max_pages": 2}, {"max_records": 7}], ids=["pages", "records"])
def test_a_walk_that_meets_its_cap_deletes_nothing(launch: Launcher, cap: dict[str, int]) -> None:
    with HubSpot(15, 3) as service:
        pagination = {"type": "cursor", "path": "paging.next.after", "param": "after", **cap}
        rig = Rig(launch, [service], pagination=pagination)
        eventually(lambda: rig.lines("WARN", service.name, "incomplete"), 20)
        assert "incomplete" in str(rig.health())
        with Subscriber(rig.at.url) as stream:
            gone = service.remove(0)
            assert gone in rig.state(service)
            walks = service.walks
            eventually(lambda: service.walks > walks + 3, 20)
            assert [r for r in stream.results() if r["op"] == "delete"] == []
