"""Sinks that fail: attempts, retries, order, and who must not suffer from it (semantics 8)."""

import time
from collections import defaultdict
from collections.abc import Iterable
from threading import Lock
from typing import Any

import pytest

from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline
from tests.harness.results import Delivered
from tests.harness.scripted import Reply, Request, WebhookReceiver
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually, never

JOIN = {"rows": "SELECT key, payload FROM t"}
RETRY = {"retry_interval": "100ms", "backoff_multiplier": 1.5, "max_backoff": "300ms"}


class Setup:
    """A running pipeline that delivers topic t to a webhook and to SSE."""

    def __init__(
        self,
        launch: Launcher,
        receiver: WebhookReceiver,
        *,
        guarantee: str,
        dlq: Any = None,
        **hook: Any,
    ):
        self.at = Listener()
        self.receiver = receiver
        sinks = [http_sink(f"{receiver.url}/hook", **hook), sse_sink(self.at)]
        delivery: dict[str, Any] = {"guarantee": guarantee}
        if guarantee == "at_least_once":
            delivery["dlq"] = RETRY | (dlq or {})
        self.pipeline: Pipeline = launch(
            push_config(self.at, JOIN, sinks=sinks, delivery=delivery), self.at.health
        )

    def put(self, *pairs: tuple[str, Any]) -> None:
        with IngestClient(self.at.url) as client:
            client.send([message("t", key, value) for key, value in pairs])


def by_key(requests: Iterable[Request]) -> dict[str, list[Any]]:
    """Payload texts (None: delete) per key, in order."""
    values: dict[str, list[Any]] = defaultdict(list)
    for request in requests:
        rows = request.json["rows"]
        values[request.json["key"]].append(rows[0]["payload"] if rows else None)
    return values


FAILURES = {
    "status 500": Reply(500),
    "status 503": Reply(503),
    "status 429": Reply(429),
    "reset": Reply(reset=True),
    "hang": Reply(hang=True),
}


@pytest.mark.parametrize("failure", ["status 500", "reset", "hang"])
def test_best_effort_drops_a_failed_result_and_goes_on(
    launch: Launcher, receiver: WebhookReceiver, failure: str
) -> None:
    setup = Setup(launch, receiver, guarantee="best_effort", timeout="500ms")
    receiver.then(FAILURES[failure])
    setup.put(("lost", 1))
    eventually(lambda: "joiner: FAILED sink send" in setup.pipeline.log())
    setup.put(("kept", 1))
    eventually(lambda: by_key(receiver.delivered()) == {"kept": ["1"]})
    never(lambda: "lost" in by_key(receiver.delivered()), 0.5)


@pytest.mark.parametrize("failure", FAILURES)
def test_at_least_once_retries_the_same_bytes_until_they_are_taken(
    launch: Launcher, receiver: WebhookReceiver, failure: str
) -> None:
    setup = Setup(launch, receiver, guarantee="at_least_once", timeout="500ms")
    receiver.then(*[FAILURES[failure]] * 3)
    setup.put(("k", 1))
    eventually(lambda: len(receiver.delivered()) == 1, 15)
    attempts = receiver.seen()
    assert len(attempts) >= 4
    assert len({request.body for request in attempts}) == 1
    assert len({request.headers["webhook-id"] for request in attempts}) == 1
    assert "dlq: enqueued result for sink" in setup.pipeline.log()
    never(lambda: len(receiver.seen()) > len(attempts), 0.5)


@pytest.mark.parametrize("default", ["best_effort", "at_least_once"])
def test_a_sink_may_have_a_guarantee_of_its_own(
    launch: Launcher, receiver: WebhookReceiver, default: str
) -> None:
    at = Listener()
    other = {"best_effort": "at_least_once", "at_least_once": "best_effort"}[default]
    sinks = [
        http_sink(f"{receiver.url}/default", "first"),
        {**http_sink(f"{receiver.url}/own", "second"), "guarantee": other},
    ]
    delivery = {"guarantee": default, "dlq": RETRY}
    pipeline = launch(push_config(at, JOIN, sinks=sinks, delivery=delivery), at.health)
    kept, dropped = ("/own", "/default") if other == "at_least_once" else ("/default", "/own")
    receiver.then(Reply(500), Reply(500))
    with IngestClient(at.url) as client:
        client.send(message("t", "k", 1))
        eventually(lambda: [r.path for r in receiver.delivered()] == [kept])
        never(lambda: receiver.delivered(dropped), 0.5)
        told = client.get("/health").body["sinks"]
    assert (told["first"]["dropped"], told["second"]["dropped"]) == (
        (1, 0) if dropped == "/default" else (0, 1)
    )
    assert pipeline.stop() == 0


def test_a_refused_connection_is_retried_until_the_receiver_is_back(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    setup = Setup(launch, receiver, guarantee="at_least_once")
    receiver.down()
    setup.put(*((f"k{i}", i) for i in range(30)))
    eventually(lambda: "dlq: enqueued result for sink" in setup.pipeline.log())
    setup.put(("k0", "newer"), ("k1", None))
    time.sleep(0.3)
    receiver.up()
    setup.put(("k2", "live"))
    want = {f'"k{i}"' for i in range(30)} - {'"k1"'}
    eventually(lambda: fold(receiver).state("rows").keys() == want)
    # An older result that was not outdated yet when its turn came may come first.
    eventually(lambda: '"payload":"\\"newer\\""' in fold(receiver).state("rows")['"k0"'][0])
    eventually(lambda: '"payload":"\\"live\\""' in fold(receiver).state("rows")['"k2"'][0])


def fold(receiver: WebhookReceiver) -> Delivered:
    return Delivered(in_log_order=False, repeats=True, from_start=False).take(
        r.json for r in receiver.delivered()
    )


def test_a_newer_result_supersedes_an_older_one_that_waits(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    setup = Setup(
        launch,
        receiver,
        guarantee="at_least_once",
        dlq={"retry_interval": "1s", "max_backoff": "1s"},
    )
    receiver.then(Reply(500))
    setup.put(("k", "old"))
    receiver.wait_requests(1)
    eventually(lambda: "dlq: enqueued" in setup.pipeline.log())
    setup.put(("k", "new"))
    eventually(lambda: by_key(receiver.delivered())["k"][-1:] == ['"new"'])
    never(lambda: by_key(receiver.delivered())["k"][-1] != '"new"', 1.5)


def test_results_of_a_key_arrive_in_order_and_one_at_a_time(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    open_now: dict[str, int] = defaultdict(int)
    overlaps: list[str] = []
    lock = Lock()

    def slowly(request: Request) -> Reply:
        key = request.json["key"]
        with lock:
            open_now[key] += 1
            if open_now[key] > 1:
                overlaps.append(key)
        time.sleep(0.01)
        with lock:
            open_now[key] -= 1
        return Reply(500) if request.number % 7 == 3 else Reply()

    receiver.default = slowly
    setup = Setup(launch, receiver, guarantee="at_least_once", max_in_flight=8)
    for n in range(12):
        setup.put(*((f"k{i}", n) for i in range(6)))
    eventually(
        lambda: all(by_key(receiver.delivered())[f"k{i}"][-1:] == ["11"] for i in range(6)), 20
    )
    assert overlaps == []
    for values in by_key(receiver.delivered()).values():
        assert values == sorted(values, key=int)
    fold(receiver)


def test_deliveries_of_different_keys_overlap(launch: Launcher, receiver: WebhookReceiver) -> None:
    receiver.default = lambda _request: Reply(delay_s=0.2)
    setup = Setup(launch, receiver, guarantee="best_effort", max_in_flight=8)
    began = time.monotonic()
    setup.put(*((f"k{i}", i) for i in range(16)))
    eventually(lambda: len(receiver.delivered()) == 16)
    assert time.monotonic() - began < 16 * 0.2


@pytest.mark.parametrize("guarantee", ["best_effort", "at_least_once"])
def test_a_hanging_sink_delays_no_other(
    launch: Launcher, receiver: WebhookReceiver, guarantee: str
) -> None:
    receiver.always(Reply(hang=True))
    setup = Setup(launch, receiver, guarantee=guarantee, timeout="30s")
    with Subscriber(setup.at.url, "rows") as stream:
        for n in range(20):
            began = time.monotonic()
            setup.put(*((f"k{i}", n) for i in range(10)))
            stream.wait_results(10 * (n + 1), "rows")
            assert time.monotonic() - began < 2
    setup.pipeline.assert_running()


def test_retry_after_is_honoured(launch: Launcher, receiver: WebhookReceiver) -> None:
    setup = Setup(launch, receiver, guarantee="at_least_once")
    receiver.then(Reply(503, headers={"Retry-After": "2"}))
    setup.put(("k", 1))
    first, second = receiver.wait_requests(2, 15)[:2]
    assert second.at - first.at >= 1.9


def test_retries_end_at_max_retries_with_an_error(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    receiver.always(Reply(500))
    setup = Setup(launch, receiver, guarantee="at_least_once", dlq={"max_retries": 2})
    setup.put(("k", 1))
    log = setup.pipeline.log
    eventually(lambda: "dlq: entry exceeded max retries" in log(), 15)
    line = next(line for line in log().splitlines() if "dlq: entry exceeded max retries" in line)
    assert "ERROR" in line
    attempts = len(receiver.seen())
    assert attempts == 3, "one delivery and two retries"
    never(lambda: len(receiver.seen()) > attempts, 0.7)
