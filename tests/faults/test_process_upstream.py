"""An API that answers badly: logged, nothing deleted, recovery without a restart (semantics 3 and
4).
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.configs import Listener, poll_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient
from tests.harness.process import Pipeline
from tests.harness.results import Delivered, canonical
from tests.harness.scripted import Reply, Upstream, json_reply
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually, never

JOIN = {"rows": "SELECT key, payload, op, changes FROM items"}
ITEMS = [{"id": n, "name": f"item {n}", "price": n * 1.5} for n in range(1, 41)]


class Feed:
    """A pipeline that polls `upstream` five times a second and deletes what is gone."""

    def __init__(
        self, launch: Launcher, upstream: Upstream, items: list[Any] = ITEMS, **api: Any
    ) -> None:
        self.at = Listener()
        self.upstream = upstream
        upstream.field = "items"
        upstream.serve(items)
        settings = {
            "url": f"{upstream.url}/v1/items", "interval": "200ms", "key_path": "id",
            "response_path": "items",
            "detect_deletes": True, "timeout": "500ms", "max_consecutive_failures": 3,
            # Each fault is to be seen by itself: a status that is asked again would be two.
            "retry": {"max_attempts": 1}, **api,
        }  # fmt: skip
        self.pipeline: Pipeline = launch(poll_config(self.at, settings, JOIN), self.at.health)

    def keys(self) -> set[str]:
        return {result["key"] for result in snapshot(self.at.url, "rows").results}

    def ready(self, count: int = len(ITEMS)) -> "Feed":
        eventually(lambda: len(self.keys()) == count)
        return self

    def log(self) -> str:
        return self.pipeline.log()


FAULTS = {
    "status 500": Reply(500, b'{"error": "boom"}'),
    "status 404": Reply(404, b"not here"),
    "status 401": Reply(401, b"{}"),
    "empty 500": Reply(500),
    "HTML with 200": Reply(
        200, b"<html><body>Please log in</body></html>", {"Content-Type": "text/html"}
    ),
    "empty object": Reply(200, b"{}"),
    "empty body": Reply(200),
    "no content": Reply(204),
    "null": Reply(200, b"null"),
    "items is null": Reply(200, b'{"items": null}'),
    "items is a text": Reply(200, b'{"items": "none"}'),
    "error object with 200": Reply(200, b'{"error": "rate limited", "code": 429}'),
    "cut on the wire": Reply(200, json.dumps({"items": ITEMS}).encode(), cut_after=300),
    "half a document": Reply(200, json.dumps({"items": ITEMS}).encode()[:300]),
    "a tail after the document": Reply(200, json.dumps({"items": ITEMS}).encode() + b"}}"),
    "no record has its key": json_reply({"items": [{"name": "no id"}] * 40}),
    "bad UTF-8": Reply(200, b'{"items": [{"id": "\xff\xfe"}]}'),
    "redirect": Reply(302, headers={"Location": "/elsewhere"}),
    "reset": Reply(reset=True),
    "hang": Reply(hang=True),
    "binary": Reply(200, bytes(range(256)) * 10),
    "gzip that is none": Reply(200, b"plain", {"Content-Encoding": "gzip"}),
}


@pytest.fixture(scope="module")
def shared_feed(launch_shared: Launcher) -> Iterator[Feed]:
    """One pipeline for all single faults: each must leave it as it was."""
    with Upstream() as server:
        yield Feed(launch_shared, server).ready()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_bad_answer_is_logged_deletes_nothing_and_is_recovered_from(
    shared_feed: Feed, fault: Reply
) -> None:
    feed, upstream, first = shared_feed, shared_feed.upstream, "api-source feed: poll failed (1/3)"
    keys, failures = feed.keys(), feed.log().count(first)
    fresh = {"id": f"after {failures}", "name": "proof of recovery"}
    with Subscriber(feed.at.url, "rows") as stream:
        # A single reset is met by the client's own connect retry.
        upstream.then(*[fault] * (2 if fault.reset else 1))
        eventually(lambda: feed.log().count(first) == failures + 1)
        line = [line for line in feed.log().splitlines() if first in line][-1]
        assert "WARN" in line
        upstream.serve([*upstream.records, fresh])
        stream.wait_results(1, timeout_s=20)
        assert [(r["key"], r["op"]) for r in stream.results()] == [(fresh["id"], "upsert")]
    assert feed.keys() == keys | {fresh["id"]}
    feed.pipeline.assert_running()


KEYLESS: dict[str, Any] = {
    "no key": {"name": "lost its id"},
    "no object": 5,
    "null": {"id": None},
    "empty": {"id": ""},
    "object": {"id": {}},
}


@pytest.mark.parametrize("record", KEYLESS.values(), ids=KEYLESS.keys())
def test_a_record_without_a_key_is_told_and_deletes_nothing(
    launch: Launcher, upstream: Upstream, record: Any
) -> None:
    """It may be the record that had a key before: what is missing then is not known to be gone."""
    feed = Feed(launch, upstream).ready()
    upstream.serve([*ITEMS[:3], record, *ITEMS[4:]])
    eventually(lambda: "WARN" in feed.log() and "record 3" in feed.log())
    upstream.wait_polls(3)
    assert len(feed.keys()) == len(ITEMS)
    upstream.serve([*ITEMS, {"id": "later"}])
    eventually(lambda: "later" in feed.keys(), 20)


@pytest.mark.parametrize("fault", ["status 500", "hang", "empty object"])
def test_failures_in_a_row_are_counted_told_as_error_and_end(
    launch: Launcher, upstream: Upstream, fault: str
) -> None:
    feed = Feed(launch, upstream).ready()
    upstream.always(FAULTS[fault])
    eventually(lambda: "api-source feed: ERROR 3 consecutive failures" in feed.log(), 20)
    for n in (1, 2, 3):
        assert f"api-source feed: poll failed ({n}/3)" in feed.log()
    line = next(line for line in feed.log().splitlines() if "ERROR 3 consecutive failures" in line)
    assert line.count("ERROR") == 2, line  # the level and the text
    assert len(feed.keys()) == len(ITEMS)
    health = IngestClient(feed.at.url).get("/health").body
    assert health["status"] == "degraded"
    assert "feed" in json.dumps(health["reasons"])
    upstream.default = upstream._serve
    upstream.serve(ITEMS[1:])
    eventually(lambda: len(feed.keys()) == len(ITEMS) - 1, 30)
    eventually(lambda: IngestClient(feed.at.url).get("/health").body["status"] == "ok")
    feed.pipeline.assert_running()


def test_polls_slow_down_after_too_many_failures(launch: Launcher, upstream: Upstream) -> None:
    feed = Feed(launch, upstream, max_consecutive_failures=2).ready()
    upstream.always(Reply(500))
    eventually(lambda: "ERROR 2 consecutive failures" in feed.log())
    polls = upstream.wait_requests(len(upstream.seen()) + 3, 30)[-3:]
    assert polls[2].at - polls[0].at > 3 * 0.2


def test_an_api_that_is_down_at_the_start_is_waited_for(
    launch: Launcher, upstream: Upstream
) -> None:
    upstream.down()
    feed = Feed(launch, upstream)
    eventually(lambda: "api-source feed: poll failed (1/3)" in feed.log())
    feed.pipeline.assert_running()
    upstream.up()
    eventually(lambda: len(feed.keys()) == len(ITEMS), 30)


def test_changes_emit_exactly_the_differences(launch: Launcher, upstream: Upstream) -> None:
    feed = Feed(launch, upstream).ready()
    with Subscriber(feed.at.url, "rows") as stream:
        changed = [dict(item) for item in ITEMS]
        changed[4]["price"] = 1000
        changed[7] = {
            "price": changed[7]["price"],
            "name": changed[7]["name"],
            "id": 8,
        }  # the same JSON value in another order
        del changed[20]
        upstream.serve([*changed[::-1], {"id": "new", "name": "n"}])
        stream.wait_results(3, timeout_s=15)
        upstream.wait_polls(3)
        results = {r["key"]: r for r in stream.results()}
        assert {key: r["op"] for key, r in results.items()} == {
            "5": "upsert",
            "new": "upsert",
            "21": "delete",
        }
        assert len(stream.results()) == 3
    row = results["5"]["rows"][0]
    assert row["op"] == "updated"
    assert canonical(json.loads(row["changes"])) == canonical({"$.price": [7.5, 1000]})
    assert results["new"]["rows"][0]["op"] == "created"


def test_an_unchanged_api_is_silent(launch: Launcher, upstream: Upstream) -> None:
    feed = Feed(launch, upstream).ready()
    with Subscriber(feed.at.url, "rows") as stream:
        upstream.serve([dict(reversed(list(item.items()))) for item in reversed(ITEMS)])
        upstream.wait_polls(4)
        assert stream.results() == []


@pytest.mark.parametrize("detection", ["diff", "hash"])
def test_one_walk_that_lost_a_few_keys_deletes_them(
    launch: Launcher, upstream: Upstream, detection: str
) -> None:
    feed = Feed(launch, upstream, change_detection=detection).ready()
    upstream.serve(ITEMS[:-3])
    eventually(lambda: len(feed.keys()) == len(ITEMS) - 3)
    upstream.serve(ITEMS)
    eventually(lambda: len(feed.keys()) == len(ITEMS))


def test_without_detect_deletes_nothing_is_deleted(launch: Launcher, upstream: Upstream) -> None:
    feed = Feed(launch, upstream, detect_deletes=False).ready()
    upstream.serve(ITEMS[:-3])
    upstream.wait_polls(3)
    never(lambda: len(feed.keys()) < len(ITEMS), 0.2)


@pytest.mark.parametrize("left", [0, 20], ids=["turned empty", "lost half"])
def test_a_list_that_shrank_much_is_believed_on_the_second_walk(
    launch: Launcher, upstream: Upstream, left: int
) -> None:
    feed = Feed(launch, upstream).ready()
    upstream.then(json_reply({"items": ITEMS[:left]}))
    upstream.wait_polls(3)
    assert len(feed.keys()) == len(ITEMS), "deleted on a single suspicious walk"
    assert any("WARN" in line and "feed" in line for line in feed.log().splitlines())
    upstream.serve(ITEMS[:left])
    eventually(lambda: len(feed.keys()) == left)


def test_a_kill_between_polls_yields_no_new_changes(launch: Launcher, upstream: Upstream) -> None:
    feed = Feed(launch, upstream).ready()
    before = {r["id"] for r in snapshot(feed.at.url, "rows").results}
    for _ in range(2):
        feed.pipeline.restart()
        upstream.wait_polls(2)
        assert {r["id"] for r in snapshot(feed.at.url, "rows").results} == before


def test_a_kill_during_the_first_poll_ends_with_every_record_once(
    launch: Launcher, upstream: Upstream
) -> None:
    many = [{"id": n, "name": f"item {n}"} for n in range(5000)]
    upstream.serve(many)
    feed = Feed(launch, upstream, items=many, timeout="10s")
    upstream.wait_requests(1)
    feed.pipeline.restart()
    with Subscriber(feed.at.url, "rows", replay=True) as stream:
        stream.wait(lambda s: len({r["key"] for r in s.results()}) == 5000, 30)
        told = Delivered(repeats=True).take(stream.results())
    assert len(told.state("rows")) == 5000


def test_a_first_poll_without_snapshot_emits_nothing_also_after_a_failure(
    launch: Launcher, upstream: Upstream
) -> None:
    upstream.then(Reply(500), FAULTS["half a document"])
    feed = Feed(launch, upstream, initial_snapshot=False)
    eventually(lambda: "poll failed (2/3)" in feed.log())
    upstream.wait_polls(3)
    with Subscriber(feed.at.url, "rows", replay=True) as stream:
        stream.wait(lambda s: s.named("replay_complete"))
        changed = [dict(item) for item in ITEMS]
        changed[0]["price"] = 2
        upstream.serve(changed)
        stream.wait_results(1)
        upstream.wait_polls(2)
        assert [r["key"] for r in stream.results() if "_replay" not in r] == ["1"]


def test_polls_of_one_source_never_overlap(launch: Launcher, upstream: Upstream) -> None:
    feed = Feed(launch, upstream, interval="100ms", timeout="5s").ready()
    slow = json_reply({"items": ITEMS})
    upstream.always(Reply(200, slow.body, slow.headers, delay_s=0.4))
    first = len(upstream.seen())
    polls = upstream.wait_requests(first + 5, 20)[first + 1 :]
    gaps = [b.at - a.at for a, b in zip(polls, polls[1:], strict=False)]
    assert min(gaps) > 0.35, gaps
    feed.pipeline.assert_running()


def test_a_huge_answer_is_refused_and_memory_stays(launch: Launcher, upstream: Upstream) -> None:
    feed = Feed(launch, upstream, max_response_bytes="1MB", timeout="10s").ready()
    before = feed.pipeline.rss_mb()
    feed.pipeline.reset_peak_rss()
    upstream.then(Reply(200, b'{"items": [' + b" " * 50_000_000 + b"]}"))
    eventually(lambda: "poll failed (1/3)" in feed.log())
    grown = feed.pipeline.peak_rss_mb() - before
    print(f"50 MB answer: rss {before:.1f} MB, peak +{grown:.1f} MB")
    assert grown < 40
    assert len(feed.keys()) == len(ITEMS)
