"""429 in all its forms: the wish is kept to and told, and no data is lost or repeated over it."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.scripted import Reply, Request
from tests.harness.sse import Subscriber
from tests.harness.waiting import SLOW, eventually
from tests.services.rig import Rig
from tests.services.shapes import GitHub, HubSpot, Shopify, Slack

WAIT_S = 1.0


def date_in(seconds: float) -> str:
    # A whole second is cut off on the way.
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds + 1), usegmt=True)


LIMITED = {
    "429 with seconds": lambda: Reply(429, headers={"Retry-After": "1"}),
    "429 with a fraction": lambda: Reply(429, headers={"Retry-After": "1.0"}),
    "429 with a date": lambda: Reply(429, headers={"Retry-After": date_in(1)}),
    "429 with a reset time": lambda: Reply(
        429, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 2)}
    ),
    "403 with nothing left": lambda: Reply(
        403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 2)}
    ),
    "503 with seconds": lambda: Reply(503, headers={"Retry-After": "1"}),
}


@pytest.fixture(scope="module")
def github(launch_shared: Launcher) -> Iterator[tuple[GitHub, Rig]]:
    with GitHub() as service:
        yield service, Rig(launch_shared, [service]).settle()


@pytest.mark.parametrize("make", LIMITED.values(), ids=LIMITED.keys())
def test_the_wish_is_kept_to_and_told(
    github: tuple[GitHub, Rig], make: Callable[[], Reply]
) -> None:
    service, rig = github
    told = len(rig.lines("github-issues", "throttled until"))
    with Subscriber(rig.at.url) as stream:
        service.on_page(2, make())
        eventually(lambda: not service._on_page[2])
        limited = service.seen()[-1]
        eventually(lambda: len(rig.lines("github-issues", "throttled until")) > told)
        assert "throttled_until" in str(rig.health())
        following = service.wait_requests(limited.number + 2)[limited.number + 1]
        assert following.at - limited.at > WAIT_S - 0.1
        service.wait_complete(1)
        assert stream.results() == []
    rig.settle()


ODD = {
    "nothing": {},
    "no number": {"Retry-After": "soon"},
    "negative": {"Retry-After": "-5"},
    "nan": {"Retry-After": "nan"},
    "beyond all numbers": {"Retry-After": "9" * 400},
    "a date that is none": {"Retry-After": "Wed, 99 Foo 2026 25:61:00 GMT"},
    "a date long ago": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
    "a reset long ago": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"},
    "a reset that is none": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "\u00b2"},
}


def test_odd_wishes_do_not_stop_the_source(launch: Launcher) -> None:
    with GitHub() as service:
        rig = Rig(launch, [service], retry={"max_attempts": 2, "backoff": "20ms"}).settle()
        for headers in ODD.values():
            service.on_page(2, Reply(429, headers=headers))
            eventually(lambda: not service._on_page[2])
            service.wait_complete(1)
        rig.settle()
        rig.pipeline.assert_running()


def test_a_wish_is_capped_at_an_hour(launch: Launcher) -> None:
    with GitHub() as service:
        rig = Rig(launch, [service]).settle()
        service.on_page(1, Reply(429, headers={"Retry-After": "99999999999"}))
        eventually(lambda: not service._on_page[1])
        line = eventually(lambda: rig.lines("throttled until"))[0]
        text = line.split("throttled until ")[1].split()[0].rstrip(",:;")
        until = datetime.fromisoformat(text.replace("Z", "+00:00"))
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        assert until - datetime.now(UTC) <= timedelta(hours=1, seconds=5)


def test_an_error_with_status_200_is_retried_as_the_config_says(launch: Launcher) -> None:
    with Slack() as service:
        rig = Rig(launch, [service], retry={"max_attempts": 3, "backoff": "50ms"}).settle()
        service.on_page(2, service.error("ratelimited"), service.error("ratelimited"))
        eventually(lambda: not service._on_page[2])
        service.wait_complete(1)
        assert rig.failures(service) == 0
        service.on_page(2, service.error("fatal_error"))
        eventually(lambda: rig.failures(service) == 1)
        service.wait_complete(1)
        rig.settle()


def spacing(requests: list[Request]) -> list[float]:
    return [b.at - a.at for a, b in pairwise(requests)]


def test_a_budget_is_kept_within_a_walk(launch: Launcher) -> None:
    """Ten requests a second, five pages a walk, a poll every 50 ms: the budget decides."""
    with Shopify(14, 3) as service:
        limit = {"requests_per_second": 10, "burst": 1}
        rig = Rig(launch, [service], interval="50ms", rate_limit=limit).settle()
        first = len(service.seen())
        requests = service.wait_requests(first + 15, 20)[first:]
        took = requests[-1].at - requests[0].at
        assert took > (len(requests) - 1) * 0.1 * 0.9
        assert rig.failures(service) == 0


def test_sources_of_one_host_share_its_budget(launch: Launcher) -> None:
    with HubSpot(3) as service:
        limit = {"requests_per_second": 5, "burst": 1}
        rig = Rig(launch, [service], copies=3, interval="50ms", rate_limit=limit)
        first = len(service.seen())
        requests = service.wait_requests(first + 10, 20)[first:]
        assert requests[-1].at - requests[0].at > (len(requests) - 1) * 0.2 * 0.9
        rig.settle(service)


def test_polls_slower_than_their_interval_do_not_pile_up(launch: Launcher) -> None:
    with HubSpot(15, 3) as service:
        rig = Rig(launch, [service], interval="100ms", timeout="5s").settle()

        def slow(reply: Reply) -> Reply:
            return Reply(reply.status, reply.body, reply.headers, delay_s=0.15)

        for page in range(1, 6):
            service.on_page(page, *[slow] * 2)
        eventually(lambda: not any(service._on_page.values()), 20 * SLOW)
        service.wait_complete(1)
        firsts = [r for r in service.seen() if service.token(r) is None]
        tokens = [service.token(r) for r in service.seen()]
        # One walk after the other: between two first pages all others were asked, in their order.
        assert len(tokens) - len(firsts) * 5 in range(-5, 1)
        assert rig.failures(service) == 0
