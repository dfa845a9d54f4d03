"""Bodies that no API should send: size, pace, encoding and numbers."""

import gzip
import json
from collections.abc import Callable, Iterator

import pytest

from tests.harness.configs import Listener, poll_config
from tests.harness.fixtures import Launcher
from tests.harness.process import Pipeline
from tests.harness.scripted import Reply, Upstream
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually
from tests.services import raw
from tests.services.raw import RawServer, Script

JOIN = {"rows": "SELECT key, payload FROM items"}
ITEMS = [{"id": n, "name": f"item {n}"} for n in range(40)]
LIMIT = 1_000_000
Feed = tuple[Listener, Upstream, Pipeline]


@pytest.fixture(scope="module")
def feed(launch_shared: Launcher) -> Iterator[Feed]:
    at = Listener()
    with Upstream(ITEMS) as upstream:
        api = {
            "url": upstream.url, "interval": "150ms", "key_path": "id", "detect_deletes": True,
            "timeout": "5s", "max_response_bytes": LIMIT,
            "max_consecutive_failures": 1000,
        }  # fmt: skip
        pipeline = launch_shared(poll_config(at, api, JOIN), at.health)
        eventually(lambda: len(snapshot(at.url, "rows").results) == len(ITEMS))
        yield at, upstream, pipeline


def bomb(layers: int = 1) -> Reply:
    body = b"[" + b" " * 200_000_000 + b"]"
    for _ in range(layers):
        body = gzip.compress(body, 1)
    return Reply(200, body, {"Content-Encoding": "gzip"})


def nested(depth: int) -> bytes:
    return b'[{"id": "deep", "a": ' + b"[" * depth + b"]" * depth + b"}]"


BAD = {
    "a gzip bomb": bomb,
    "200 MB": lambda: Reply(200, b"[" + b" " * 200_000_000 + b"]"),
    "bad UTF-8": lambda: Reply(200, b'[{"id": "a\xc3\x28"}]'),
    "an overlong slash": lambda: Reply(200, b'[{"id": "\xc0\xaf"}]'),
    "a lone surrogate": lambda: Reply(200, rb'[{"id": "a", "b": "\ud800"}]'),
    "NaN": lambda: Reply(200, b'[{"id": "n", "value": NaN}]'),
    "Infinity": lambda: Reply(200, b'[{"id": "n", "value": -Infinity}]'),
    "a leading zero": lambda: Reply(200, b'[{"id": "n", "value": 012}]'),
    "depth 10,000": lambda: Reply(200, nested(10_000)),
    "depth 1,000,000": lambda: Reply(200, nested(400_000)),
    "single quotes": lambda: Reply(200, b"[{'id': 'n'}]"),
    "a control character": lambda: Reply(200, b'[{"id": "a\x01"}]'),
    "UTF-16": lambda: Reply(200, json.dumps(ITEMS).encode("utf-16")),
    "gzip cut": lambda: Reply(
        200, gzip.compress(json.dumps(ITEMS).encode())[:-12], {"Content-Encoding": "gzip"}
    ),
    "an unknown encoding": lambda: Reply(
        200, json.dumps(ITEMS).encode(), {"Content-Encoding": "lzma"}
    ),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_a_bad_body_fails_the_poll_and_memory_stays(feed: Feed, make: Callable[[], Reply]) -> None:
    at, upstream, pipeline = feed
    reply = make()
    failed = pipeline.log().count("poll failed")
    pipeline.reset_peak_rss()
    before = pipeline.rss_mb()
    with Subscriber(at.url, "rows") as stream:
        upstream.then(reply)
        eventually(lambda: pipeline.log().count("poll failed") > failed, 20)
        grown = pipeline.peak_rss_mb() - before
        fresh = {"id": f"after {failed}"}
        upstream.serve([*upstream.records, fresh])
        stream.wait_results(1, timeout_s=20)
        assert [r["key"] for r in stream.results()] == [fresh["id"]]
    print(f"peak +{grown:.1f} MB")
    assert grown < 40
    pipeline.assert_running()


def test_numbers_are_kept_to_the_digit(feed: Feed) -> None:
    """2^64 and 1e400 fit no machine number, and come out as they came in."""
    at, upstream, pipeline = feed
    texts = ["18446744073709551616", "1e400", "-0.0", "0.1000000000000000055511151231257827021"]
    body = "[" + ",".join(f'{{"id": "n{i}", "value": {t}}}' for i, t in enumerate(texts)) + "]"
    everything = json.dumps(upstream.records)[:-1] + "," + body[1:]
    try:
        upstream.always(Reply(200, everything.encode()))

        def told() -> dict[str, str]:
            results = snapshot(at.url, "rows").results
            return {r["key"]: r["rows"][0]["payload"] for r in results if r["key"][0] == "n"}

        eventually(lambda: len(told()) == len(texts))
        for number, text in enumerate(texts):
            assert told()[f"n{number}"].replace(" ", "") == f'{{"id":"n{number}","value":{text}}}'
        with Subscriber(at.url, "rows") as stream:
            # The same numbers in other words: no change.
            again = everything.replace("1e400", "10e399").replace(texts[0], texts[0] + ".0")
            upstream.always(Reply(200, again.encode()))
            upstream.wait_polls(3)
            assert stream.results() == []
    finally:
        upstream.default = upstream._serve


PACED: dict[str, Script] = {
    "one byte at a time": raw.drip_body,
    "a header byte at a time": raw.drip_head,
    "chunks without end": raw.endless_chunks,
    "headers without end": raw.endless_headers,
    "a chunk size that is none": raw.bad_chunk,
    "no last chunk": raw.cut_chunk,
    "no HTTP at all": raw.not_http,
    "two lengths": raw.two_lengths,
}


def test_servers_that_never_finish_are_given_up(launch: Launcher) -> None:
    """One source for each, all in one pipeline; a healthy one beside them is not held up."""
    at = Listener()
    servers = [RawServer(script) for script in PACED.values()]
    with Upstream(ITEMS) as upstream:
        api = {
            "interval": "300ms", "key_path": "id", "timeout": "700ms", "detect_deletes": True,
            "max_response_bytes": LIMIT,
        }  # fmt: skip
        config = poll_config(at, {**api, "url": upstream.url}, JOIN)
        config["sources"] += [
            {"name": f"bad{n}", "type": "api", "topic": f"bad{n}", "api": {**api, "url": s.url}}
            for n, s in enumerate(servers)
        ]
        try:
            pipeline = launch(config, at.health)
            for number in range(len(PACED)):
                line = f"api-source bad{number}: poll failed (2/"
                eventually(lambda text=line: text in pipeline.log(), 30)
            eventually(lambda: len(snapshot(at.url, "rows").results) == len(ITEMS))
            polls = len(upstream.seen())
            upstream.wait_polls(4)
            assert len(upstream.seen()) >= polls + 4
            print(f"rss {pipeline.rss_mb():.0f} MB, sent {[s.sent for s in servers]}")
            assert pipeline.rss_mb() < 150
            pipeline.assert_running()
        finally:
            for server in servers:
                server.__exit__()


def test_many_sources_that_hang_leave_the_others_in_time(launch: Launcher) -> None:
    """Thirty APIs that take a request and say nothing; the one beside them is polled as ever."""
    at = Listener()
    with Upstream() as silent, Upstream(ITEMS) as upstream:
        silent.always(Reply(hang=True))
        api = {"interval": "200ms", "key_path": "id", "timeout": "60s"}
        config = poll_config(at, {**api, "url": upstream.url}, JOIN)
        config["sources"][:0] = [
            {"name": f"hung{n}", "type": "api", "topic": f"hung{n}",
             "api": {**api, "url": f"{silent.url}/{n}"}}
            for n in range(30)
        ]  # fmt: skip
        pipeline = launch(config, at.health)
        silent.wait_requests(30)
        eventually(lambda: len(snapshot(at.url, "rows").results) == len(ITEMS))
        upstream.wait_polls(5)
        assert len(silent.seen()) == 30
        pipeline.assert_running()


def test_a_large_response_is_not_held_until_the_next_poll(launch: Launcher) -> None:
    """20 MB, other bytes at every poll: between two polls the memory is that of before."""
    at = Listener()
    few = json.dumps(ITEMS).encode()
    with Upstream(ITEMS) as upstream:
        api = {"url": upstream.url, "interval": "200ms", "key_path": "id", "detect_deletes": True}
        pipeline = launch(poll_config(at, api, JOIN), at.health)
        eventually(lambda: len(snapshot(at.url, "rows").results) == len(ITEMS))
        before = pipeline.rss_mb()
        for size in range(20_000_000, 20_000_005):
            upstream.then(Reply(200, few[:-1] + b" " * size + b"]"))
        pipeline.reset_peak_rss()
        upstream.wait_polls(7)
        peak, after = pipeline.peak_rss_mb() - before, pipeline.rss_mb() - before
        print(f"peak +{peak:.1f} MB, after +{after:.1f} MB")
        assert 15 < peak < 45
        assert after < 12
        assert "poll failed" not in pipeline.log()
