"""Subscribers: replay, snapshot plus subscribe, resume, reset, slow clients (semantics 10)."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline
from tests.harness.results import (
    Delivered,
    State,
    canonical,
    canonical_rows,
    difference,
    snapshot_state,
)
from tests.harness.sse import DeafSubscriber, Subscriber, snapshot
from tests.harness.waiting import eventually

AT = Listener()
JOINS = {"rows": "SELECT key, payload FROM t", "big": "SELECT key, payload FROM big"}


@pytest.fixture(scope="module", autouse=True)
def pipeline(launch_shared: Launcher) -> Pipeline:
    return launch_shared(push_config(AT, JOINS), AT.health)


@pytest.fixture
def client() -> Iterator[IngestClient]:
    with IngestClient(AT.url) as made:
        yield made


def put(client: IngestClient, *keys: str, value: Any = 1) -> None:
    client.send([message("t", key, value) for key in keys])


def ingested(client: IngestClient, *keys: str, value: Any = 1) -> None:
    """Put rows and wait until /snapshot shows them."""
    put(client, *keys, value=value)
    wanted = ",".join(keys)
    eventually(lambda: len(snapshot(AT.url, "rows", keys=wanted).results) == len(keys))


def test_a_subscription_is_an_event_stream(client: IngestClient) -> None:
    with Subscriber(AT.url, "rows") as stream:
        assert stream.status == 200
        assert stream.content_type.startswith("text/event-stream")
        put(client, "plain")
        event = stream.wait(lambda s: s.named("join_result"))[0]
    assert event.json["key"] == "plain"
    assert event.id


@pytest.mark.parametrize("query", ["", "?join=", "?join=nope", "?join=rows&replay=maybe"])
def test_a_bad_subscription_is_refused(client: IngestClient, query: str) -> None:
    answer = client.get(f"/subscribe{query}")
    assert answer.status in (400, 404), answer
    assert answer.refusal()


@pytest.mark.parametrize(
    "query",
    [
        "?join=nope",
        "?join=rows&limit=many",
        "?join=rows&limit=-1",
        "?join=rows&from=never",
        "?join=rows&to=x",
    ],
)
def test_a_bad_snapshot_request_is_refused(client: IngestClient, query: str) -> None:
    answer = client.get(f"/snapshot{query}")
    assert answer.status in (400, 404), answer
    assert answer.refusal()


def test_replay_sends_the_current_state_then_goes_live(client: IngestClient) -> None:
    ingested(client, "replay-a", "replay-b")
    with Subscriber(AT.url, "rows", replay=True) as stream:
        stream.wait(lambda s: s.named("replay_complete"))
        replayed = stream.results("rows")
        assert all(r["_replay"] is True for r in replayed)
        assert snapshot_state(replayed) == snapshot_state(snapshot(AT.url, "rows").results)
        put(client, "replay-a", value=2)
        live = stream.wait(lambda s: s.results("rows")[len(replayed) :])[0]
        assert (live["key"], "_replay" in live) == ("replay-a", False)
        assert len(stream.named("replay_complete")) == 1


def test_a_subscription_to_one_key_sees_only_that_key(client: IngestClient) -> None:
    with Subscriber(AT.url, "rows", key="one") as stream:
        put(client, "two", "one", "three")
        stream.wait_results(1)  # or the second state could take the first one's place
        put(client, "one", value=2)
        stream.wait_results(2)
        time.sleep(0.1)
        assert [r["key"] for r in stream.results()] == ["one", "one"]


def test_a_star_subscription_sees_every_join(client: IngestClient) -> None:
    with Subscriber(AT.url, "*") as stream:
        client.send([message("t", "star", 1), message("big", "star", 1)])
        stream.wait(lambda s: {r["query"] for r in s.results()} == set(JOINS))


def test_two_subscribers_get_the_same_events(client: IngestClient) -> None:
    with Subscriber(AT.url, "rows") as one, Subscriber(AT.url, "rows") as two:
        for n in range(20):
            put(client, *(f"twin{i}" for i in range(5)), value=n)
        for stream in (one, two):
            stream.wait(
                lambda s: [
                    r
                    for r in s.results()
                    if r["key"] == "twin4" and r["rows"][0]["payload"] == "19"
                ]
            )
        seen = [[(e.id, e.data) for e in s.named("join_result")] for s in (one, two)]
    assert seen[0] == seen[1]


def test_resuming_misses_and_repeats_nothing(client: IngestClient) -> None:
    keys = [f"resume{i}" for i in range(40)]
    events: list[tuple[str, str]] = []
    with Subscriber(AT.url, "rows") as stream:
        put(client, "resume-first")
        events += [(e.id, e.data) for e in stream.wait(lambda s: s.named("join_result"))]
    for i, key in enumerate(keys):
        put(client, key)
        if i % 7 == 0:
            with Subscriber(AT.url, "rows", last_event_id=events[-1][0]) as stream:
                stream.wait(partial(has_key, key))
                events += [(e.id, e.data) for e in stream.named("join_result")]
                assert stream.named("reset") == []
    with Subscriber(AT.url, "rows", last_event_id=events[-1][0]) as stream:
        stream.wait(lambda s: s.results() and s.results()[-1]["key"] == keys[-1])
        events += [(e.id, e.data) for e in stream.named("join_result")]
    assert [json_key(data) for _, data in events] == ["resume-first", *keys]
    assert len({event_id for event_id, _ in events}) == len(events)


def has_key(key: str, stream: Subscriber) -> bool:
    return any(result["key"] == key for result in stream.results())


def json_key(data: str) -> str:
    return str(json.loads(data)["key"])


def test_resuming_at_the_head_sends_nothing_old(client: IngestClient) -> None:
    ingested(client, "head")
    position = snapshot(AT.url, "rows").position
    with Subscriber(AT.url, "rows", last_event_id=position) as stream:
        put(client, "after-head")
        stream.wait_results(1)
        assert [r["key"] for r in stream.results()] == ["after-head"]


class Writer:
    """Writes and deletes random keys until stopped, in a thread of its own."""

    def __init__(self, prefix: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(prefix,), daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self, prefix: str) -> None:
        n = 0
        with IngestClient(AT.url) as client:
            while not self._stop.is_set():
                n += 1
                value = None if n % 5 == 0 else {"n": n}
                client.send([message("t", f"{prefix}{(n * 7 + i) % 50}", value) for i in range(3)])


@pytest.mark.parametrize("how", ["snapshot", "replay"])
def test_state_and_what_follows_are_gapless_under_writes(client: IngestClient, how: str) -> None:
    """Opened in mid-write, every subscriber ends in one state; no result is doubled or lost."""
    with ExitStack() as stack:
        with Writer(f"gap-{how}"):
            views = []
            for _ in range(20):
                time.sleep(0.02)
                views.append(View(how, stack))
            time.sleep(0.3)
        ingested(client, f"gap-{how}-end")
        final = snapshot_state(snapshot(AT.url, "rows").results)["rows"]
        for view in views:
            eventually(partial(view.shows, final))
            assert view.live >= 20, "the writer did not write while this subscriber was open"


class View:
    """The state that one subscriber sees: what it was shown first, then live results."""

    def __init__(self, how: str, stack: ExitStack) -> None:
        if how == "snapshot":
            shown = snapshot(AT.url, "rows")
            self._first = shown.results
            self._skip = 0
            opened = Subscriber(AT.url, "rows", last_event_id=shown.position)
        else:
            opened = Subscriber(AT.url, "rows", replay=True)
            opened.wait(lambda s: s.named("replay_complete"))
            self._first = [r for r in opened.results() if "_replay" in r]
            self._skip = len(self._first)
        self._stream = stack.enter_context(opened)
        self.live = 0

    def shows(self, want: State) -> bool:
        told = Delivered().begin(self._first)
        told.take(self._stream.results()[self._skip :])
        self.live = told.count["rows"]
        text = difference(told.state("rows"), want)
        assert not text, text
        return True


def test_an_unknown_epoch_gets_one_reset_and_the_current_state(client: IngestClient) -> None:
    ingested(client, "epoch-a", "epoch-b")
    with Subscriber(AT.url, "rows", last_event_id="deadbeef-5") as stream:
        stream.wait(lambda s: s.named("reset"))
        stream.wait(lambda s: {"epoch-a", "epoch-b"} <= {r["key"] for r in s.results()})
        put(client, "epoch-live")
        stream.wait(lambda s: [r for r in s.results() if r["key"] == "epoch-live"])
        assert len(stream.named("reset")) == 1
        assert stream.events[0].name == "reset"
        states = [r for r in stream.results() if r["key"] == "epoch-a"]
        assert len(states) == 1


@pytest.mark.parametrize(
    "last",
    [
        "x",
        "-1",
        "deadbeef-",
        "-",
        "0",
        "99999999999999999999999",
        "ü",
        "deadbeef-99999999999999999999",
        "a" * 4000,
    ],
)
def test_a_nonsense_last_event_id_resets_or_is_refused(client: IngestClient, last: str) -> None:
    ingested(client, "nonsense")
    with Subscriber(AT.url, "rows", last_event_id=last) as stream:
        if stream.status == 200:
            stream.wait(lambda s: s.named("reset"))
            stream.wait(lambda s: [r for r in s.results() if r["key"] == "nonsense"])
        else:
            assert stream.status in (400, 431)


def test_a_position_from_the_future_resets(client: IngestClient) -> None:
    ingested(client, "future")
    epoch = snapshot(AT.url, "rows").position.rsplit("-", 1)[0]
    with Subscriber(AT.url, "rows", last_event_id=f"{epoch}-{2**62}") as stream:
        assert stream.status == 200
        stream.wait(lambda s: s.named("reset"))
        stream.wait(lambda s: [r for r in s.results() if r["key"] == "future"])


def test_snapshot_filters_by_keys_and_limit(client: IngestClient) -> None:
    ingested(client, "filter-a", "filter-b", "filter-c")
    shown = snapshot(AT.url, "rows", keys="filter-a,filter-c,absent")
    assert sorted(r["key"] for r in shown.results) == ["filter-a", "filter-c"]
    assert len(snapshot(AT.url, "rows", limit="2").results) == 2
    row = shown.results[0]["rows"]
    assert canonical_rows(row) == (canonical({"key": shown.results[0]["key"], "payload": "1"}),)


def test_a_deaf_subscriber_delays_nobody_and_costs_little(
    client: IngestClient, pipeline: Pipeline
) -> None:
    rows = 4000
    with DeafSubscriber(AT.port, "big"), Subscriber(AT.url, "big") as stream:
        before = pipeline.rss_mb()
        pipeline.reset_peak_rss()
        for start in range(0, rows, 100):
            keys = [f"k{i}" for i in range(start, start + 100)]
            client.send([message("big", key, "x" * 10_000) for key in keys])
        stream.wait(lambda s: len(s.events) >= rows, 30)
        grown = pipeline.peak_rss_mb() - before
        print(f"40 MB past a deaf subscriber: rss {before:.1f} MB, peak +{grown:.1f} MB")
        assert grown < 80
