"""Requests go to the origin of the config, and credentials nowhere else."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.scripted import Reply, ScriptedServer, json_reply
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.shapes import GitHub, OData, Salesforce


@pytest.fixture
def stranger() -> Iterator[ScriptedServer]:
    """Another origin, which would answer whatever it is asked."""
    with ScriptedServer(lambda _request: json_reply([])) as server:
        yield server


@pytest.mark.parametrize("settings", [{}, {"follow_redirects": "same_origin"}], ids=["off", "on"])
def test_a_redirect_to_another_origin_is_not_followed(
    launch: Launcher, stranger: ScriptedServer, settings: dict[str, str]
) -> None:
    with GitHub() as service:
        rig = Rig(launch, [service], retry={"max_attempts": 1}, **settings).settle()
        for count, status in enumerate((301, 302, 303, 307, 308), 1):
            service.on_page(1, Reply(status, headers={"Location": f"{stranger.url}/steal"}))
            eventually(lambda n=count: rig.failures(service) >= n)
            service.wait_complete(1)
        rig.settle()
        assert stranger.seen() == []


def test_a_redirect_on_the_same_origin_is_followed_if_the_config_says_so(launch: Launcher) -> None:
    with GitHub() as service:
        rig = Rig(launch, [service], follow_redirects="same_origin").settle()
        there = "/repositories/1300192/issues?per_page=100&state=all"
        for location in (there, service.url + there):
            moved = len([r for r in service.seen() if r.path == there])
            service.on_page(1, Reply(307, headers={"Location": location}))
            eventually(lambda n=moved: len([r for r in service.seen() if r.path == there]) > n)
        service.wait_complete(1)
        assert rig.failures(service) == 0
        rig.settle()


def test_redirects_that_go_in_circles_end(launch: Launcher) -> None:
    with GitHub() as service:
        settings = {"follow_redirects": "same_origin", "retry": {"max_attempts": 1}}
        rig = Rig(launch, [service], interval="2s", **settings).settle()
        around = Reply(302, headers={"Location": service.path})
        asked = len(service.seen())
        service.default = lambda _request: around
        eventually(lambda: rig.failures(service) >= 1)
        assert len(service.seen()) - asked < 40


def elsewhere(stranger: ScriptedServer) -> Callable[[Reply], Reply]:
    """The page, its next link pointing at the stranger."""
    target = f"{stranger.url}/next"

    def turn(reply: Reply) -> Reply:
        if "Link" in reply.headers:
            headers = {**reply.headers, "Link": f'<{target}>; rel="next"'}
            return Reply(reply.status, reply.body, headers)
        body = json.loads(reply.body)
        field = next(name for name in ("nextRecordsUrl", "@odata.nextLink") if name in body)
        return json_reply({**body, field: target})

    return turn


@pytest.mark.parametrize("shape", [GitHub, Salesforce, OData], ids=lambda s: s.name)
def test_a_next_page_on_another_origin_is_refused(
    launch: Launcher, stranger: ScriptedServer, shape: type[GitHub | Salesforce | OData]
) -> None:
    with shape() as service:
        rig = Rig(launch, [service], retry={"max_attempts": 1}).settle()
        service.on_page(1, elsewhere(stranger))
        eventually(lambda: rig.failures(service) >= 1)
        service.wait_complete(1)
        rig.settle()
        assert stranger.seen() == []
