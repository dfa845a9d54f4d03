"""`for_each`: one walk for each record of another topic, and what is not a delete."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.scripted import Reply, Request, ScriptedServer, json_reply
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import Feeds


class Tree(ScriptedServer):
    """Teams at /teams, the members of one at /teams/ID/members."""

    def __init__(self) -> None:
        self.teams = {team: {"id": team, "org": f"org of {team}"} for team in ("a", "b", "c d/ü")}
        self.members = {team: {n: {"n": n, "v": 0} for n in (1, 2)} for team in self.teams}
        self.faults: dict[str, Reply] = {}
        """Instead of the members of a team."""
        self.walked: list[str] = []
        """Teams whose members were asked for."""
        super().__init__(self._serve)

    def _serve(self, request: Request) -> Reply:
        if request.path == "/teams":
            return json_reply(list(self.teams.values()))
        escaped = request.path.removeprefix("/teams/").removesuffix("/members")
        team = {"c%20d%2F%C3%BC": "c d/ü"}.get(escaped, escaped)
        self.walked.append(team)
        if team in self.faults:
            return self.faults[team]
        if team not in self.members:
            return Reply(404)
        return json_reply({"members": list(self.members[team].values())})

    def order(self) -> tuple[str, str, str]:
        """The three teams in the order in which walks come by them."""
        first, second, third = dict.fromkeys(self.walked)
        return first, second, third

    def expected(self) -> dict[str, Any]:
        """Key -> record of the topic of members."""
        return {
            f"{self.teams[team]['org']}:{n}": {**record, "org": self.teams[team]["org"]}
            for team, members in self.members.items()
            if team in self.teams
            for n, record in members.items()
        }


def sources(tree: Tree, **api: Any) -> list[dict[str, Any]]:
    common = {
        "interval": "60ms", "detect_deletes": True, "retry": {"max_attempts": 1},
        "max_consecutive_failures": 1000,
    }  # fmt: skip
    teams = {"url": f"{tree.url}/teams", "key_path": "id", **common}
    members = {
        "url": f"{tree.url}/teams/{{team}}/members", "response_path": "members",
        "for_each": {"topic": "teams", "path": "id", "param": "team"},
        "include_from_parent": ["org"], "key_path": ["org", "n"], **common, **api,
    }  # fmt: skip
    return [
        {"name": "teams-api", "type": "api", "topic": "teams", "api": teams},
        {"name": "members-api", "type": "api", "topic": "members", "api": members},
    ]


@pytest.fixture
def tree() -> Iterator[Tree]:
    with Tree() as server:
        yield server


def settle(feeds: Feeds, tree: Tree) -> None:
    eventually(lambda: feeds.topic("members") == tree.expected(), 30)


def test_members_follow_their_teams(launch: Launcher, tree: Tree) -> None:
    feeds = Feeds(launch, sources(tree))
    settle(feeds, tree)
    with Subscriber(feeds.at.url, "members") as stream:
        tree.members["new"] = {7: {"n": 7, "v": 0}}
        tree.teams["new"] = {"id": "new", "org": "org of new"}
        stream.wait_results(1)
        assert [(r["op"], r["key"]) for r in stream.results()] == [("upsert", "org of new:7")]
        tree.members["a"][1] = {"n": 1, "v": 5}
        stream.wait_results(2)
        del tree.teams["new"]
        stream.wait_results(3)
        told = [(r["op"], r["key"]) for r in stream.results()[1:]]
        assert told == [("upsert", "org of a:1"), ("delete", "org of new:7")]
    settle(feeds, tree)


@pytest.mark.parametrize("fault", [Reply(500), Reply(404), Reply(200, b"<html>"), Reply(200)])
def test_a_team_that_fails_half_way_deletes_nobody(
    launch: Launcher, tree: Tree, fault: Reply
) -> None:
    """The teams before it are taken in; it and those after it stand as they were."""
    feeds = Feeds(launch, sources(tree))
    settle(feeds, tree)
    first, second, _ = tree.order()
    with Subscriber(feeds.at.url, "members") as stream:
        tree.faults[second] = fault
        eventually(lambda: feeds.lines("members-api: poll failed", "page 2 incomplete"), 30)
        del tree.members[first][2]  # really gone, and not to be told yet
        tree.members[first][1] = {"n": 1, "v": 1}
        stream.wait_results(1)
        feeds.wait_polls("members-api", 3)
        assert [r["op"] for r in stream.results()] == ["upsert"]
        tree.faults.clear()
        stream.wait_results(2)
        told = [(r["op"], r["key"]) for r in stream.results()]
        assert told == [("upsert", f"org of {first}:1"), ("delete", f"org of {first}:2")]
    settle(feeds, tree)


def test_an_ignored_team_is_not_gone(launch: Launcher, tree: Tree) -> None:
    """`response_actions` passes over a 404; a walk that passed over something is incomplete."""
    actions = [{"status": 404, "action": "ignore"}]
    feeds = Feeds(launch, sources(tree, response_actions=actions))
    settle(feeds, tree)
    with Subscriber(feeds.at.url, "members") as stream:
        _, second, third = tree.order()
        tree.faults[second] = Reply(404)
        eventually(lambda: "it was ignored" in str(feeds.source("members-api")), 30)
        tree.members[third][1] = {"n": 1, "v": 9}
        stream.wait_results(1)
        feeds.wait_polls("members-api")
        assert [r["key"] for r in stream.results()] == [f"org of {third}:1"]
        assert feeds.source("members-api")["failed_polls"] == 0


def test_all_teams_gone_at_once_are_believed_at_the_second_walk(
    launch: Launcher, tree: Tree
) -> None:
    """No parents and no requests: the members are gone as well, by the rule of emptied lists."""
    feeds = Feeds(launch, sources(tree))
    settle(feeds, tree)
    tree.teams.clear()
    eventually(lambda: feeds.topic("members") == {}, 30)
    assert feeds.lines("members-api", "gone from the response at once")
    assert feeds.lines("teams-api", "gone from the response at once")
