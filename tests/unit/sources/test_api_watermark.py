"""A watermark keeps a poll small and misses nothing; it moves only over durable rows."""

from dataclasses import replace
from typing import Any

import pytest

from litejoin.errors import PollError, StorageFullError
from litejoin.plan.nodes_api import ForEachPlan, PagingPlan, WatermarkPlan
from litejoin.sources.api.times import MS_NS, format_time, parse_since, parse_time
from litejoin.sources.api.transport import Response
from tests.unit.sources.api_pages import Api, Asked, page, run

UPDATED = WatermarkPlan("timestamp", path="at", param="since")
PAGES = PagingPlan("page", param="page", stop_after_empty_page=True, max_pages=100)


def stamp(second: int) -> str:
    return f"2024-01-01T00:00:{second:02d}.5Z"


class Feed:
    """Records with times; answers with those at or after `since`."""

    def __init__(self, count: int) -> None:
        self.records: dict[int, dict[str, Any]] = {}
        for n in range(count):
            self.put(n, n)

    def put(self, key: int, second: int, **more: Any) -> None:
        self.records[key] = {"id": key, "at": stamp(second), **more}

    def __call__(self, asked: Asked) -> Response:
        since = asked.params.get("since", "")
        found = [r for r in self.records.values() if r["at"] >= since]
        at = int(asked.params.get("page", 0)) * 4
        return page(found[at : at + 4] if "page" in asked.params else found)


def test_the_latest_time_is_the_next_requests_parameter() -> None:
    feed = Feed(10)

    async def story(api: Api) -> None:
        await api.poll()
        assert "since" not in api.wire.asked[0].params
        feed.put(3, 20, v=1)
        assert await api.poll() == [("UPSERT", "3")]
        assert api.wire.asked[0].params["since"] == stamp(9)
        api.restart()
        assert await api.poll() == []
        assert api.wire.asked[0].params["since"] == stamp(20)
        assert len(api.keys) == 10  # what a filtered poll does not show is not gone

    run(story, feed, watermark=UPDATED, detect_deletes=True)


def test_a_watermark_in_the_body_says_that_the_body_is_json() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        await api.poll()
        asked = api.wire.asked[-1]
        assert asked.body == {"q": {"since": stamp(2)}}
        assert asked.headers["content-type"] == "application/json"

    run(story, Feed(3), watermark=WatermarkPlan("timestamp", path="at", body_path="q.since"))


def test_rows_of_the_lookback_are_not_emitted_again() -> None:
    feed = Feed(10)
    plan = WatermarkPlan("timestamp", path="at", param="since", lookback_ms=5_000)

    async def story(api: Api) -> None:
        await api.poll()
        feed.put(77, 6)  # came late, behind the watermark
        assert await api.poll() == [("UPSERT", "77")]
        assert api.wire.asked[0].params["since"] == "2024-01-01T00:00:04.500Z"
        assert await api.poll() == []
        assert api.wire.asked[0].params["since"] == "2024-01-01T00:00:04.500Z"

    run(story, feed, watermark=plan)


def test_a_watermark_does_not_move_over_a_failed_walk_and_the_replay_changes_nothing() -> None:
    feed = Feed(10)

    async def story(api: Api) -> None:
        def broken(asked: Asked) -> Response:
            return page({}, 500) if asked.params["page"] == "2" else feed(asked)

        api.wire.handler = broken
        await api.poll()
        assert (api.ok, len(api.keys)) == (False, 8)
        api.restart()  # kill -9 between the pages and the watermark
        api.wire.handler = feed
        assert await api.poll() == [("UPSERT", "8"), ("UPSERT", "9")]
        assert "since" not in api.wire.asked[0].params
        api.restart()
        assert await api.poll() == []
        assert api.wire.asked[0].params["since"] == stamp(9)

    run(story, feed, watermark=UPDATED, paging=PAGES)


def test_a_watermark_does_not_move_over_pages_that_were_not_asked_for() -> None:
    feed = Feed(10)

    async def story(api: Api) -> None:
        await api.poll()
        assert (len(api.keys), api.incomplete != "") == (8, True)
        api.restart(paging=PAGES)
        assert await api.poll() == [("UPSERT", "8"), ("UPSERT", "9")]
        assert "since" not in api.wire.asked[0].params

    run(story, feed, watermark=UPDATED, paging=replace(PAGES, max_pages=2))


def test_a_watermark_never_goes_back_when_the_newest_record_is_gone() -> None:
    feed = Feed(10)

    async def story(api: Api) -> None:
        await api.poll()
        del feed.records[9]
        await api.poll()
        await api.poll()
        assert api.wire.asked[0].params["since"] == "2024-01-01T00:00:06.500Z"

    run(story, feed, watermark=replace(UPDATED, lookback_ms=3_000))


def test_a_watermark_that_cannot_be_stored_is_not_used() -> None:
    feed = Feed(3)

    async def story(api: Api) -> None:
        api.store.failures = [(None, 0), (StorageFullError("full"), 0)]
        await api.poll()
        assert not api.ok
        await api.poll()
        assert "since" not in api.wire.asked[0].params

    run(story, feed, watermark=UPDATED)


def test_a_full_sweep_beside_incremental_polls_sees_deletes() -> None:
    feed = Feed(6)
    plan = WatermarkPlan("timestamp", path="at", param="since", sweep_ms=60_000)

    async def story(api: Api) -> None:
        await api.poll()
        del feed.records[2]
        assert await api.poll() == []
        api.clock.advance(61_000)
        assert await api.poll() == [("DELETE", "2")]
        assert "since" not in api.wire.asked[0].params
        api.clock.advance(40_000)
        await api.poll()
        assert "since" in api.wire.asked[0].params
        api.clock.advance(20_000)  # the poll in between was none
        await api.poll()
        assert "since" not in api.wire.asked[0].params
        api.restart()
        api.clock.jump(-3_600_000)  # a clock set back must not put sweeps off
        await api.poll()
        assert "since" not in api.wire.asked[0].params

    run(story, feed, watermark=plan, detect_deletes=True)


def test_initial_is_the_first_value_and_other_configs_start_anew() -> None:
    feed = Feed(5)
    plan = WatermarkPlan("timestamp", path="at", header="X-Since", initial="2020-01-01T00:00:00Z")

    async def story(api: Api) -> None:
        await api.poll()
        assert api.wire.asked[0].headers["x-since"] == "2020-01-01T00:00:00Z"
        await api.poll()
        assert api.wire.asked[0].headers["x-since"] == stamp(4)
        api.restart(url="https://api.test/others")
        await api.poll()
        assert api.wire.asked[0].headers["x-since"] == "2020-01-01T00:00:00Z"

    run(story, feed, watermark=plan)


def test_a_cursor_of_the_response_goes_into_the_next_poll() -> None:
    def handler(asked: Asked) -> Response:
        at = int(asked.params.get("sync", 0))
        return page({"d": [{"id": at}], "sync": at + 1} if at < 3 else {"d": []})

    async def story(api: Api) -> None:
        for _ in range(5):
            await api.poll()
        assert api.keys == ["0", "1", "2"]
        assert api.wire.asked[0].params["sync"] == "3"

    run(story, handler, watermark=WatermarkPlan("cursor", path="sync", param="sync"),
        response_path="d")  # fmt: skip


class Versioned:
    """Answers 304 to its own validator."""

    def __init__(self) -> None:
        self.version = 1
        self.records: list[dict[str, int]] = [{"id": n} for n in range(20)]

    def __call__(self, asked: Asked) -> Response:
        tag = f'"v{self.version}"'
        if asked.headers.get("if-none-match") == tag:
            return page(b"", 304)
        return page(self.records, etag=tag)


def test_a_304_is_a_poll_without_a_change_also_after_a_restart() -> None:
    server = Versioned()

    async def story(api: Api) -> None:
        await api.poll()
        assert "if-none-match" not in api.wire.asked[0].headers
        for _ in range(2):
            assert await api.poll() == []
            assert (api.ok, api.source.health()["records"]) == (True, 20)
            api.restart()
        server.version, server.records = 2, [{"id": n} for n in range(1, 20)]
        assert await api.poll() == [("DELETE", "0")]

    run(story, server, watermark=WatermarkPlan("etag"), detect_deletes=True)


def test_a_304_does_not_stand_for_a_list_whose_deletes_are_held() -> None:
    server = Versioned()

    async def story(api: Api) -> None:
        await api.poll()
        server.version, server.records = 2, []
        assert await api.poll() == []  # a list turned empty: held
        assert len(await api.poll()) == 20

    run(story, server, watermark=WatermarkPlan("etag"), detect_deletes=True)


@pytest.mark.parametrize("tag", ['"\xff"', '"a\x0bb"', '"' + "e" * 2_000 + '"', ""])
def test_a_validator_that_cannot_be_sent_back_is_not_kept(tag: str) -> None:
    async def story(api: Api) -> None:
        for _ in range(2):
            await api.poll()
            assert api.ok, api.reason
            assert "if-none-match" not in api.wire.asked[-1].headers
            api.restart()

    run(story, lambda _: page([{"id": 1}], etag=tag), watermark=WatermarkPlan("etag"))


def test_a_304_that_was_not_asked_for_is_a_failure() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert not api.ok

    run(story, lambda _: page(b"", 304), watermark=WatermarkPlan("etag"))


def test_validators_of_one_page_do_not_stand_for_all() -> None:
    def handler(asked: Asked) -> Response:
        assert "if-none-match" not in asked.headers
        at = int(asked.params["page"])
        return page([{"id": at}] if at < 3 else [], etag='"p"')

    async def story(api: Api) -> None:
        await api.poll()
        await api.poll()
        assert api.ok

    run(story, handler, watermark=WatermarkPlan("etag"), paging=PAGES)


@pytest.mark.parametrize(
    ("text", "format_", "nanoseconds"),
    [
        ("2024-01-01T00:00:00Z", "rfc3339", 1_704_067_200_000_000_000),
        ("2024-01-01T01:00:00.123456789+01:00", "rfc3339", 1_704_067_200_123_456_789),
        ("2024-01-01 00:00:00", "rfc3339", 1_704_067_200_000_000_000),
        ("1704067200.5", "unix", 1_704_067_200_500_000_000),
        ("1704067200500", "unix_ms", 1_704_067_200_500_000_000),
        ("2024-01-01", "%Y-%m-%d", 1_704_067_200_000_000_000),
        ("01/01/24 01:00 +0100", "%d/%m/%y %H:%M %z", 1_704_067_200_000_000_000),
    ],
)
def test_times_are_read_exactly_and_written_alike(
    text: str, format_: str, nanoseconds: int
) -> None:
    assert parse_time(text, format_) == nanoseconds
    again = parse_time(format_time(nanoseconds // MS_NS, format_), format_)
    assert abs(again - nanoseconds) < 10**9


@pytest.mark.parametrize("format_", ["rfc3339", "unix", "unix_ms", "%Y"])
@pytest.mark.parametrize("text", ["", "x", "2024-99-01T00:00:00Z", "1e400", "9" * 400])
def test_what_is_no_time_is_told(text: str, format_: str) -> None:
    with pytest.raises(PollError, match="is not a time of the format"):
        parse_time(text, format_)


def test_the_start_of_slices_is_a_time_or_a_span_before_now() -> None:
    assert parse_since("1h30m", 10_000_000) == 10_000_000 - 5_400_000
    assert parse_since("1970-01-02", 0) == 86_400_000


EACH_TEAM: dict[str, Any] = {
    "url": "https://api.test/teams/{team}/m",
    "for_each": ForEachPlan("teams", "id", "team"),
}


def since(api: Api) -> dict[str, str | None]:
    """Which team was asked from where on."""
    return {asked.path.split("/")[2]: asked.params.get("since") for asked in api.wire.asked}


def test_a_new_parent_is_asked_for_everything_it_has() -> None:
    """Its records may all be older than what the other parents have shown."""
    feeds = {"a": Feed(9), "b": Feed(3)}

    def handler(asked: Asked) -> Response:
        return feeds[asked.path.split("/")[2]](asked)

    async def story(api: Api) -> None:
        teams = api.store.other_topics["teams"] = [b'{"id":"a"}']
        assert await api.poll()
        teams.append(b'{"id":"b"}')
        await api.poll()
        assert since(api) == {"a": stamp(8), "b": None}
        api.restart()
        feeds["a"].put(1, 30)
        await api.poll()
        assert since(api) == {"a": stamp(8), "b": stamp(2)}
        del teams[0]  # a parent that comes back may have missed changes
        await api.poll()
        teams.append(b'{"id":"a"}')
        await api.poll()
        assert since(api) == {"b": stamp(2), "a": None}

    run(story, handler, **EACH_TEAM, watermark=UPDATED)


def test_each_parent_goes_on_from_its_own_cursor() -> None:
    def handler(asked: Asked) -> Response:
        team, at = asked.path.split("/")[2], int(asked.params.get("since", "0-0").split("-")[1])
        return page({"d": [{"id": f"{team}{at}"}], "c": f"{team}-{at + 1}"})

    async def story(api: Api) -> None:
        api.store.other_topics["teams"] = [b'{"id":"a"}', b'{"id":"b"}']
        await api.poll()
        await api.poll()
        assert since(api) == {"a": "a-1", "b": "b-1"}
        api.wire.handler = lambda asked: page({}, 500) if "/b/" in asked.path else handler(asked)
        await api.poll()  # one parent fails: the walk is asked for again as a whole
        api.wire.handler = handler
        await api.poll()
        assert since(api) == {"a": "a-2", "b": "b-2"}
        assert api.keys == ["a0", "a1", "a2", "b0", "b1", "b2"]

    plan = WatermarkPlan("cursor", path="c", param="since")
    run(story, handler, **EACH_TEAM, watermark=plan, response_path="d")


def test_a_lookback_from_the_year_1_asks_from_there() -> None:
    """What APIs written in Go say for a time that is not set."""
    never = "0001-01-01T00:00:00Z"

    async def story(api: Api) -> None:
        await api.poll()
        await api.poll()
        assert api.ok, api.reason
        assert api.wire.asked[0].params["since"] == never

    plan = WatermarkPlan("timestamp", path="at", param="since", lookback_ms=5_000)
    run(story, lambda _: page([{"id": 1, "at": never}]), watermark=plan)
