"""What an API refuses, throttles or breaks: asked again politely, told clearly, never believed."""

import logging
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from litejoin.plan.nodes_api import (
    ActionPlan,
    AdaptivePlan,
    PagingPlan,
    RatePlan,
    RetryPlan,
    Secret,
    TokenAuth,
)
from litejoin.sources.api.budget import Budgets
from litejoin.sources.api.pace import Pace
from litejoin.sources.api.throttle import MAX_WAIT_MS, wait_ms
from litejoin.sources.api.transport import Response
from tests.unit.sources.api_pages import Api, Asked, items, page, run

NOW_MS = 1_700_000_000_000
RETRY = RetryPlan(max_attempts=3, backoff_ms=400, max_backoff_ms=10_000)


class Flaky:
    """Answers from a list, then with three records."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)

    def __call__(self, asked: Asked) -> Response:
        return self.answers.pop(0) if self.answers else page(items(0, 3))


def test_statuses_are_retried_within_the_poll_and_others_are_not() -> None:
    async def story(api: Api) -> None:
        api.wire.handler = Flaky(page({}, 503), page({}, 500))
        await api.poll()
        assert (api.ok, len(api.wire.asked)) == (True, 3)
        first, second = [s for s in api.slept if s]
        assert 0.2 <= first <= 0.4 <= second * 1.01 <= 0.81
        api.wire.handler = Flaky(page({}, 404))
        await api.poll()
        assert (api.ok, len(api.wire.asked)) == (False, 1)
        api.wire.handler = Flaky(*[page({}, 503)] * 3)
        await api.poll()
        assert (api.ok, len(api.wire.asked)) == (False, 3)

    run(story, Flaky(), retry=RETRY)


def test_the_wait_for_a_retry_doubles_up_to_max_backoff() -> None:
    retry = RetryPlan(max_attempts=5, backoff_ms=1_000, max_backoff_ms=3_000)

    async def story(api: Api) -> None:
        await api.poll()
        first, second, third, fourth = [s for s in api.slept if s]
        assert 0.5 <= first <= 1 <= second <= 2
        assert 1.5 <= third <= 3 and 1.5 <= fourth <= 3

    run(story, Flaky(*[page({}, 503)] * 4), retry=retry, interval_ms=600_000)


def test_who_waits_for_the_budget_waits_on_when_another_is_told_to() -> None:
    async def story(api: Api) -> None:
        budget = api.source._exchange._budget
        budget.block(1_000)

        async def sleep(seconds: float) -> None:
            if api.clock.monotonic_ms() < 1_000:
                budget.block(9_000)
            api.clock.advance(int(seconds * 1000))

        api.source._exchange._sleep = sleep
        await api.poll()
        assert (api.ok, api.clock.monotonic_ms()) == (True, 9_000)

    run(story, Flaky())


def test_a_retry_does_not_wait_beyond_the_next_poll() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert max(api.slept) <= 0.2

    run(story, Flaky(page({}, 500)), interval_ms=200,
        retry=RetryPlan(max_attempts=2, backoff_ms=60_000))  # fmt: skip


WAITS: dict[str, tuple[int, dict[str, str], int | None]] = {
    "seconds": (429, {"retry_after": "7"}, 7_000),
    "a fraction": (429, {"retry_after": "0.5"}, 500),
    "a date": (503, {"retry_after": format_datetime(datetime.fromtimestamp(1_700_000_009, UTC))},
               9_000),
    "a date by the server's clock": (
        503,
        {
            "retry_after": format_datetime(datetime.fromtimestamp(1_600_000_009, UTC)),
            "date": format_datetime(datetime.fromtimestamp(1_600_000_000, UTC)),
        },
        9_000,
    ),
    "a day": (429, {"retry_after": "86400"}, MAX_WAIT_MS),
    "the past": (429, {"retry_after": "-5"}, 0),
    "garbage": (429, {"retry_after": "soon"}, None),
    "not a number": (429, {"retry_after": "nan"}, None),
    "reset in seconds": (429, {"x_ratelimit_reset": "30"}, 30_000),
    "reset at a time": (429, {"x_ratelimit_reset": "1700000040"}, 40_000),
    "reset at a time in ms": (429, {"x_ratelimit_reset": "1700000040000"}, 40_000),
    "reset of the draft": (429, {"ratelimit_reset": "3"}, 3_000),
    "the last request of the budget": (
        200, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "5"}, 5_000,
    ),
    "budget left": (200, {"x_ratelimit_remaining": "9", "x_ratelimit_reset": "5"}, None),
    "a 403 of GitHub": (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1700000001"},
                        1_000),
    "milliseconds": (429, {"retry_after_ms": "1500", "retry_after": "2"}, 1_500),
    "a date of RFC 3339": (429, {"retry_after": "2023-11-14T22:13:29Z"}, 9_000),
    "reset at a date": (429, {"x_ratelimit_reset": "2023-11-14T22:13:29Z"}, 9_000),
    "reset in words": (429, {"x_ratelimit_reset": "soon"}, None),
    "reset after": (429, {"x_ratelimit_reset_after": "1.25"}, 1_250),
    "RateLimit of the first drafts": (429, {"ratelimit": "limit=9, remaining=0, reset=4"}, 4_000),
    "RateLimit": (429, {"ratelimit": '"hour";r=3;t=9'}, 9_000),
    "the last request of RateLimit": (200, {"ratelimit": '"day";r=7;t=90, "hour";r=0;t=6'}, 6_000),
    "two spent limits of RateLimit": (200, {"ratelimit": '"day";r=0;t=90, "hour";r=0;t=6'}, 90_000),
    "RateLimit with requests left": (200, {"ratelimit": '"day";r=7;t=90'}, None),
    "RateLimit with no numbers": (429, {"ratelimit": '"day";r=x;t=y, limit=9'}, None),
    "a 403 of RateLimit": (403, {"ratelimit": "limit=9, remaining=0, reset=4"}, 4_000),
    "bare": (429, {}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", WAITS)
def test_every_way_to_ask_for_a_pause_is_understood(name: str) -> None:
    status, headers, expected = WAITS[name]
    assert wait_ms(page({}, status, **headers), NOW_MS) == expected


def test_a_throttled_poll_waits_tells_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def story(api: Api) -> None:
        states = []

        async def sleep(seconds: float) -> None:
            states.append(api.source.health().get("throttled_until"))
            api.clock.advance(int(seconds * 1000))

        api.source._exchange._sleep = sleep
        await api.poll()
        assert api.ok
        assert "2023-11-14T22:15:20.000Z" in states
        assert "throttled until 2023-11-14T22:15:20.000Z: HTTP 429 Too Many Requests" in caplog.text
        assert api.clock.monotonic_ms() >= 120_000
        assert "throttled_until" not in api.source.health()

    run(story, Flaky(page({}, 429, retry_after="120")), retry=RETRY)


def test_every_source_of_a_throttled_budget_says_so() -> None:
    async def story(api: Api) -> None:
        budgets = Budgets()
        api.restart(budgets)
        other = api.source
        api.restart(budgets)
        await api.poll()
        assert not api.ok
        until = {"2023-11-14T22:15:20.000Z"}
        assert {each.health().get("throttled_until") for each in (api.source, other)} == until
        api.clock.advance(120_000)
        assert "throttled_until" not in other.health()

    run(story, lambda _: page({}, 429, retry_after="120"), retry=RetryPlan(max_attempts=1))


@pytest.mark.parametrize("status", [204, 206])
def test_a_success_that_is_not_the_whole_list_is_a_failure(status: int) -> None:
    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = lambda _: page(items(0, 1), status)
        for _ in range(3):
            assert await api.poll() == []
            assert not api.ok and f"HTTP {status}" in api.reason
        assert len(api.keys) == 3

    run(story, Flaky())


def test_a_403_that_means_too_many_requests_is_asked_again_and_another_is_not() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert (api.ok, len(api.wire.asked)) == (True, 2)
        api.wire.handler = Flaky(page({}, 403))
        await api.poll()
        assert (api.ok, len(api.wire.asked)) == (False, 1)

    run(story, Flaky(page({}, 403, retry_after="1")), retry=RETRY)


def test_the_strictest_limit_of_a_kind_holds_whoever_joins_later() -> None:
    budgets = Budgets()
    for per_second, burst in ((10, 2), (1, 1), (10, 3)):
        budget = budgets.join(RatePlan(per_second=per_second, burst=burst), "api.test")
    assert [round(budget.reserve(0)) for _ in range(3)] == [0, 1000, 2000]
    budget.block(60_000)
    budget.block(50_000)
    assert budget.blocked_ms(0) == 60_000


def test_a_budget_is_shared_by_its_group_and_the_strictest_limit_holds() -> None:
    budgets = Budgets()
    one = budgets.join(RatePlan(per_second=10), "api.test")
    two = budgets.join(RatePlan(per_minute=60), "api.test")
    other = budgets.join(RatePlan(), "other.test")
    grouped = budgets.join(RatePlan(group="g"), "api.test")
    assert one is two and one is not other and grouped is not one
    waits = [one.reserve(0), two.reserve(0), one.reserve(0)]
    assert [round(wait) for wait in waits] == [0, 1000, 2000]
    assert other.reserve(0) == 0
    one.block(10_000)
    assert two.blocked_ms(4_000) == 6_000
    assert two.reserve(5_000) == 5_000


def test_a_burst_may_come_at_once_and_is_earned_again() -> None:
    budget = Budgets().join(RatePlan(per_second=1, burst=3), "a")
    assert [round(budget.reserve(0)) for _ in range(5)] == [0, 0, 0, 1000, 2000]
    assert [round(budget.reserve(60_000)) for _ in range(4)] == [0, 0, 0, 1000]


@pytest.mark.parametrize("burst", [1, 5, 2000])
@pytest.mark.parametrize("per_minute", [1, 7, 60, 1000])
def test_no_minute_sees_more_requests_than_its_limit(per_minute: int, burst: int) -> None:
    budget = Budgets().join(RatePlan(per_minute=per_minute, burst=burst), "a")
    times, now = [], 0.0
    for step in range(per_minute * 2):
        now += (step * 7919) % 50
        now += budget.reserve(now)
        times.append(now)
    for start in times[:: max(1, per_minute // 7)]:
        assert sum(start <= at < start + 60_000 for at in times) <= per_minute


def test_response_actions_judge_before_the_status_does() -> None:
    ratelimited = page({"ok": False, "error": "ratelimited"})

    async def story(api: Api) -> None:
        api.wire.handler = Flaky(ratelimited)
        await api.poll()
        assert (api.ok, len(api.wire.asked)) == (True, 2)
        api.wire.handler = Flaky(page({"error": "bad"}, 200))
        await api.poll()
        assert not api.ok
        assert "HTTP 200 OK, the response contains 'bad'" in api.reason
        api.wire.handler = Flaky(page({}, 404))
        assert await api.poll() == []
        assert "page 1 incomplete: it was ignored" in api.incomplete
        assert len(api.keys) == 3

    run(story, Flaky(), retry=RETRY, response_actions=(
        ActionPlan("retry", contains="ratelimited"),
        ActionPlan("fail", status="2xx", contains="bad"),
        ActionPlan("ignore", status="404"),
    ))  # fmt: skip


def test_stop_ends_the_polling_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert not api.ok
        assert "stopped by response_actions: HTTP 410 Gone" in caplog.text
        health = api.source.health()
        assert health["status"] == "degraded"
        assert "HTTP 410" in str(health["reason"])

    run(story, Flaky(page({}, 410)), response_actions=(ActionPlan("stop", status="410"),))


def test_a_401_is_told_as_failed_auth() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert api.reason == "auth failed: HTTP 401 Unauthorized"
        assert len(api.wire.asked) == 1

    run(story, lambda _: page({}, 401), auth=TokenAuth("bearer", Secret("x")), retry=RETRY)


def test_pages_are_apart_by_page_delay() -> None:
    def handler(asked: Asked) -> Response:
        at = int(asked.params["page"])
        return page(items(at, at + 1) if at < 3 else [])

    async def story(api: Api) -> None:
        await api.poll()
        assert api.slept == [0.25] * 3

    run(story, handler, paging=PagingPlan("page", param="page", stop_after_empty_page=True,
                                          max_pages=9, delay_ms=250))  # fmt: skip


def test_an_adaptive_interval_follows_what_happens_within_its_bounds() -> None:
    pace = Pace("x", 10_000, 5, 0, AdaptivePlan(1_000, 60_000))
    now, gaps = pace.wait_ms(0), []
    for changed in [True] * 6 + [False] * 14:
        pace.succeeded(now, changed=changed)
        gaps.append(pace.wait_ms(now))
        now += gaps[-1]
    assert gaps[:6] == [5_000, 2_500, 1_250, 1_000, 1_000, 1_000]
    assert gaps[6:9] == [1_500, 2_250, 3_375]
    assert gaps[-1] == 60_000


def test_credentials_and_parameters_are_in_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story(api: Api) -> None:
        for _ in range(4):
            await api.poll()
        assert "hunter2" not in caplog.text + str(api.source.health())

    def handler(asked: Asked) -> Response:
        return page({"next": "https://elsewhere.test/?k=hunter2", "d": [{"id": 1}]})

    changes: dict[str, Any] = {"url": "https://api.test/?k=hunter2", "response_path": "d"}
    run(story, handler, auth=TokenAuth("api_key", Secret("hunter2"), "k", "query"),
        paging=PagingPlan("next_url", path="next", max_pages=5), **changes)  # fmt: skip


@pytest.mark.parametrize("error", [ValueError("odd"), OverflowError("odd"), RecursionError("odd")])
def test_an_answer_that_nobody_thought_of_fails_its_poll_only(error: Exception) -> None:
    async def story(api: Api) -> None:
        assert await api.poll() == []
        assert api.reason == f"the answer cannot be handled: {type(error).__name__}: odd"
        api.wire.handler = lambda _: page(items(0, 3))
        assert len(await api.poll()) == 3

    def provoke(_: Asked) -> Response:
        raise error

    run(story, provoke)


@pytest.mark.parametrize("cursor", [b"9" * 5_000, b"1e400"])
def test_a_cursor_that_fits_no_body_fails_the_walk(cursor: bytes) -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert "a body cannot hold the number" in api.reason

    run(story, lambda _: page(b'{"d":[{"id":1}],"next":' + cursor + b"}"), method="POST",
        paging=PagingPlan("cursor", path="next", body_path="after"), response_path="d")  # fmt: skip
