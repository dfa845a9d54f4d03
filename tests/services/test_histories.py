"""The property: whatever happens upstream and however it pages, the topic equals the upstream after
a quiet complete walk, and what was emitted is exactly the difference between consecutive walks.

`LITEJOIN_TEST_SEED=17` replays one history, `LITEJOIN_TEST_SEEDS=20` runs that many.
"""

import json
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.results import Delivered, canonical
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.service import Record, Service
from tests.services.shapes import ALL, Rates

ROUNDS = 4
SHAPES = [shape for shape in ALL if shape is not Rates]
_histories = count()
"""A history makes records that no other one made: the services outlive it."""


def seeds() -> list[int]:
    if one := os.environ.get("LITEJOIN_TEST_SEED"):
        return [int(one)]
    return list(range(int(os.environ.get("LITEJOIN_TEST_SEEDS", "1"))))


class Author:
    """Writes the history of one service: a function of the seed and of the service's name."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        self._dice = random.Random(f"{service.name} {seed}")
        self._numbers = count(5000 + 100 * next(_histories))

    def step(self) -> None:
        """A few changes of every kind; sometimes many, sometimes none."""
        dice, service = self._dice, self.service
        for _ in range(dice.choice((0, 1, 2, 3, 8))):
            records = service.records
            kind = dice.choice(("edit", "edit", "insert", "remove", "back", "reorder"))
            at = dice.randrange(len(records) + 1)
            if kind == "insert" or at == len(records):
                number = next(self._numbers)
                service.insert(at, number)
            elif kind == "edit":
                service.edit(at)
            elif kind == "remove" and not service.resumes and len(records) > 2:
                service.remove(at)
            elif kind == "back":
                edited = records[at]
                service.edit(at)
                if not service.resumes:
                    service.set([edited if i == at else r for i, r in enumerate(service.records)])
            elif kind == "reorder" and not service.by_key:
                service.set(dice.sample(records, len(records)))


@pytest.fixture(scope="module")
def rig(launch_shared: Launcher) -> Iterator[Rig]:
    with ExitStack() as stack:
        services = [stack.enter_context(shape(11, 4)) for shape in SHAPES]
        yield Rig(launch_shared, services).settle()


@pytest.mark.parametrize("seed", seeds())
def test_each_round_emits_exactly_its_difference(rig: Rig, seed: int) -> None:
    """Changes fall between two walks, so what each walk must find is known to the record."""
    print(f"LITEJOIN_TEST_SEED={seed}")
    authors = [Author(service, seed) for service in rig.services]
    rig.settle()
    with Subscriber(rig.at.url) as stream:
        for number in range(ROUNDS):
            before = {s.name: s.contents() for s in rig.services}
            told = len(stream.results())
            for author in authors:
                author.service.between_walks(author.step)
            for service in rig.services:
                eventually(lambda s=service: s.wrote)
            rig.settle()
            for service in rig.services:
                # Pages by position: a record is gone when two complete walks missed it.
                service.wait_complete(2)
            rig.settle()
            for service in rig.services:
                want = differences(before[service.name], service.contents())
                stream.wait(
                    lambda got, s=service, w=want, t=told: (
                        len(emitted(rig, s, got.results()[t:])) >= len(w)
                    )
                )
                assert emitted(rig, service, stream.results()[told:]) == want, (
                    f"{service.name}, round {number}, LITEJOIN_TEST_SEED={seed}"
                )
        Delivered(from_start=False).take(stream.results())


@pytest.mark.parametrize("seed", seeds())
def test_changes_in_the_middle_of_walks_end_in_the_same_state(rig: Rig, seed: int) -> None:
    """Changes fall anywhere; what was told is never a no-op, and folds to the upstream."""
    print(f"LITEJOIN_TEST_SEED={seed}")
    rig.settle()
    start = {service.name: service.contents() for service in rig.services}
    authors = [Author(service, seed + 1000) for service in rig.services]
    with Subscriber(rig.at.url) as stream:
        for _ in range(ROUNDS * 3):
            for author in authors:
                author.service.on_page(2, lambda reply, a=author: (a.step(), reply)[1])
            rig.services[0].wait_complete(1)
        for service in rig.services:
            service.calm()
        rig.settle(timeout_s=30)
        results = stream.results()
        for service in rig.services:
            folded = {key: canonical(record) for key, record in start[service.name].items()}
            fold(folded, (r for r in results if r["query"] == rig.topics[service.name]))
            want = {key: canonical(record) for key, record in service.contents().items()}
            assert folded == want, f"{service.name}, LITEJOIN_TEST_SEED={seed}"
        Delivered(from_start=False).take(results)


def differences(before: dict[str, Record], after: dict[str, Record]) -> list[tuple[str, str, str]]:
    """(key, op, record) of each difference, sorted."""
    gone = [(key, "delete", "") for key in before if key not in after]
    made = [(key, "created", canonical(after[key])) for key in after if key not in before]
    edited = [
        (key, "updated", canonical(after[key]))
        for key in after
        if key in before and canonical(before[key]) != canonical(after[key])
    ]
    return sorted(gone + made + edited)


def emitted(rig: Rig, service: Service, results: list[Any]) -> list[tuple[str, str, str]]:
    """The same of what was told."""
    return sorted(
        (r["key"], "delete", "")
        if r["op"] == "delete"
        else (
            r["key"],
            r["rows"][0]["op"],
            canonical(json.loads(r["rows"][0]["payload"])),
        )
        for r in results
        if r["query"] == rig.topics[service.name]
    )


def fold(state: dict[str, str], results: Iterator[Any]) -> None:
    for result in results:
        if result["op"] == "delete":
            del state[result["key"]]
        else:
            state[result["key"]] = canonical(json.loads(result["rows"][0]["payload"]))
