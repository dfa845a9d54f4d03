"""Which record is which: keys, duplicates, children; and polls that store nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest

from litejoin.plan.nodes_api import (
    ActionPlan,
    ForEachPlan,
    OAuthPlan,
    PagingPlan,
    Secret,
)
from litejoin.sources.api.probe import probe
from litejoin.sources.api.transport import Response
from tests.unit.sources.api_pages import Api, Asked, Scripted, items, page, run

PAGES = PagingPlan("page", param="page", stop_after_empty_page=True, max_pages=100)


def test_a_number_is_one_key_however_it_is_spelled() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        for text in (b'[{"id":8.0}]', b'[{"id":80e-1}]', b'[ {"id":0.8E1} ]'):
            api.wire.handler = lambda _, text=text: page(text)
            assert await api.poll() == []
        assert api.keys == ["8"]

    run(story, lambda _: page(b'[{"id":8}]'))


@pytest.mark.parametrize(("which", "kept"), [("last", 2), ("first", 1)])
@pytest.mark.parametrize("apart", [False, True])
def test_of_two_records_with_one_key_the_wanted_one_stands(
    which: str, kept: int, apart: bool
) -> None:
    both = [{"id": 1, "v": 1}, {"id": 1, "v": 2}]

    def handler(asked: Asked) -> Response:
        at = int(asked.params["page"])
        if apart:
            return page(both[at : at + 1])
        return page(both if at == 0 else [])

    async def story(api: Api) -> None:
        await api.poll()
        assert api.store.values()["1"] == {"id": 1, "v": kept}

    run(story, handler, on_duplicate_key=which, paging=PAGES)


def test_a_duplicate_can_fail_the_poll() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert (api.ok, api.keys) == (False, [])
        assert "repeat a key" in api.reason

    run(story, lambda _: page([{"id": 1}, {"id": 1}]), on_duplicate_key="error")


def test_a_missing_key_can_fail_the_poll() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert (api.ok, api.keys) == (False, [])
        assert api.reason == "1 of 2 records lack a usable key: the key of record 1 is missing"

    run(story, lambda _: page([{"id": 1}, {"x": 1}]), on_missing_key="error")


TEAMS = [b'{"id":1,"org":"a"}', b'{"id":"x/y","org":{"n":2}}', b'{"id":1}', b'{"id":{}}', b"{}"]
EACH = ForEachPlan("teams", "id", "team")


MEMBERS: dict[str, Any] = {
    "url": "https://api.test/teams/{team}/m",
    "response_path": "d",
    "paging": PagingPlan("page", param="page", size=2, max_pages=9),
}


def members(asked: Asked) -> Response:
    team = asked.path.split("/")[2]
    at = int(asked.params["page"])
    return page({"d": [{"id": f"{team}-{n}"} for n in range(at * 2, min(at * 2 + 2, 3))]})


def each(api: Api) -> None:
    api.store.other_topics["teams"] = list(TEAMS)


def test_each_record_of_another_topic_is_walked_once() -> None:
    async def story(api: Api) -> None:
        assert await api.poll() == []  # no teams yet
        each(api)
        await api.poll()
        assert {asked.path for asked in api.wire.asked} == {"/teams/1/m", "/teams/x%2Fy/m"}
        assert len(api.keys) == 6
        api.store.other_topics["teams"] = TEAMS[:1]
        assert await api.poll() == []  # pages shift: a second walk must agree
        assert {kind for kind, _ in await api.poll()} == {"DELETE"}
        assert api.keys == ["1-0", "1-1", "1-2"]

    run(story, members, for_each=EACH, **MEMBERS)


def test_a_failed_child_deletes_nothing_and_an_ignored_one_neither() -> None:
    def broken(asked: Asked) -> Response:
        return page({}, 404) if "/1/" in asked.path else members(asked)

    async def story(api: Api) -> None:
        each(api)
        await api.poll()
        api.wire.handler = broken
        assert await api.poll() == []
        assert not api.ok
        api.restart(response_actions=(ActionPlan("ignore", status="404"),))
        assert await api.poll() == []
        assert (api.ok, len(api.keys)) == (True, 6)
        assert "it was ignored" in api.incomplete

    run(story, members, for_each=EACH, **MEMBERS)


def test_fields_of_the_parent_are_copied_and_may_be_part_of_the_key() -> None:
    def handler(asked: Asked) -> Response:
        return page(b'{"d":[ {"id":7} , {"org":"own","id":8,"n":1e400},{}]}')

    async def story(api: Api) -> None:
        api.store.other_topics["teams"] = TEAMS[:2]
        await api.poll()
        payloads = {key: row.payload for key, row in api.store.topic.items()}
        assert payloads == {
            b"a:7": b'{"id":7,"org":"a"}',
            b"own:8": b'{"org":"own","id":8,"n":1e400}',
        }

    run(story, handler, url="https://api.test/teams/{team}/m",
        for_each=ForEachPlan("teams", "id", "team", ("org",)), response_path="d",
        key_path=("org", "id"))  # fmt: skip


def test_a_probe_reports_and_stores_nothing() -> None:
    def listing(asked: Asked) -> Response:
        at = int(asked.params["page"])
        return page(items(at * 2, at * 2 + 2, v=1) if at < 2 else [], x_ratelimit_remaining="9")

    async def story(api: Api) -> None:
        await api.poll()

    api = run(story, listing, paging=PAGES)
    rows, state = len(api.store.log), dict(api.store.state)

    def changed(asked: Asked) -> Response:
        at = int(asked.params["page"])
        return page([{"id": 0, "v": 1}, {"id": 1, "v": 2}, {"id": 9, "v": 3}] if at == 0 else [])

    report = probe(api.plan, transport=Scripted(changed), state=api.store)
    assert (report.created, report.updated, report.unchanged) == (("9",), ("1",), 1)
    assert (report.pages, report.records, report.waiting) == (2, 3, 2)
    assert report.requests == (("GET", "https://api.test/items", 200),) * 2
    assert json.loads(report.payloads["9"]) == {"id": 9, "v": 3}
    assert (len(api.store.log), api.store.state) == (rows, state)

    fresh = probe(api.plan, max_pages=1, transport=Scripted(listing))
    assert fresh.created == ("0", "1")
    assert fresh.rate_limits == {"x-ratelimit-remaining": "9"}
    assert "max_pages 1" in fresh.incomplete
    failed = probe(api.plan, transport=Scripted(lambda _: page({}, 403)))
    assert failed.error == "HTTP 403 Forbidden"


def test_a_probe_does_not_use_up_a_refresh_token() -> None:
    plan = run(_nothing, lambda _: page([])).plan
    auth = OAuthPlan("https://a.test/", "i", Secret("s"), "header", refresh_token=Secret("r"))
    assert "refresh token" in probe(replace(plan, auth=auth)).error


async def _nothing(_: Api) -> None:
    return None


def test_two_records_of_one_key_on_two_pages_are_no_change_per_poll() -> None:
    pages = [[{"id": 1, "v": 1}, {"id": 2}], [{"id": 3}, {"id": 1, "v": 2}]]

    def handler(asked: Asked) -> Response:
        at = int(asked.params["page"])
        return page(pages[at] if at < 2 else [])

    async def story(api: Api) -> None:
        await api.poll()
        for _ in range(3):
            assert await api.poll() == []
        pages[1][1] = {"id": 1, "v": 9}
        assert await api.poll() == [("UPSERT", "1")]
        assert await api.poll() == []
        del pages[1][1]  # the second is gone: the first stands from the walk after the next
        await api.poll()
        assert await api.poll() == [("UPSERT", "1")]
        assert api.store.values()["1"] == {"id": 1, "v": 1}
        assert await api.poll() == []

    run(story, handler, paging=PAGES)
