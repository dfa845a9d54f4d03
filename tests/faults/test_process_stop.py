"""SIGTERM, SIGINT, SIGHUP and a second signal: clean, in time, nothing lost (product 10)."""

import signal
import threading
import time
from functools import partial
from typing import Any

import pytest
import urllib3

from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline
from tests.harness.scripted import Reply, WebhookReceiver
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import SLOW, eventually

JOIN = {"rows": "SELECT key, payload FROM t"}


def started(launch: Launcher, **sections: Any) -> tuple[Pipeline, Listener]:
    at = Listener()
    return launch(push_config(at, JOIN, **sections), at.health), at


def assert_clean(pipeline: Pipeline, began: float, limit_s: float = 10.0) -> None:
    """Exit 0 in time, no write-ahead log left, nothing that looks like a crash."""
    assert pipeline.wait_exit(30) == 0, pipeline.output()
    took = time.monotonic() - began
    print(f"stopped in {took:.2f} s")
    assert took < limit_s * SLOW
    left = [name for name in pipeline.files() if name.endswith(("-wal", "-shm", "-journal"))]
    assert left == []
    assert "Traceback" not in pipeline.output(), pipeline.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_an_idle_pipeline_cleanly(launch: Launcher, number: int) -> None:
    at = Listener()
    pipeline = launch.prepare(push_config(at, JOIN), health_url=at.health)
    # Tests may have been started with nohup themselves.
    pipeline.command = ["env", "--default-signal=HUP", *pipeline.command]
    pipeline.start()
    with IngestClient(at.url) as client, Subscriber(at.url) as stream:
        client.send([message("t", f"k{i}", {"i": i}) for i in range(500)])
        stream.wait_results(500)
        began = time.monotonic()
        pipeline.signal(number)
        assert_clean(pipeline, began)
        stream.wait_closed()


def test_a_closed_terminal_does_not_end_what_was_started_with_nohup(launch: Launcher) -> None:
    at = Listener()
    pipeline = launch.prepare(push_config(at, JOIN), health_url=at.health)
    pipeline.command = ["nohup", *pipeline.command]
    pipeline.start()
    pipeline.signal(signal.SIGHUP)
    with IngestClient(at.url) as client, Subscriber(at.url) as stream:
        client.send([message("t", "k", {"i": 1})])
        stream.wait_results(1)
    assert pipeline.stop() == 0
    assert "stopping" in pipeline.output()


def test_a_signal_right_after_the_start_ends_cleanly(launch: Launcher) -> None:
    for delay_s in (0.0, 0.05, 0.15, 0.3, 0.5):
        pipeline = launch.prepare(push_config(Listener(), JOIN)).spawn()
        time.sleep(delay_s)
        began = time.monotonic()
        pipeline.signal(signal.SIGTERM)
        # Before the program has set its handlers the kernel ends it, which is as good.
        assert pipeline.wait_exit(15) in (0, -signal.SIGTERM), pipeline.output()
        assert time.monotonic() - began < 10 * SLOW
        assert "Traceback" not in pipeline.output(), pipeline.output()


def test_the_second_start_after_a_clean_stop_repeats_nothing(launch: Launcher) -> None:
    pipeline, at = started(launch)
    with IngestClient(at.url) as client, Subscriber(at.url) as stream:
        client.send([message("t", f"k{i}", {"i": i}) for i in range(100)])
        stream.wait_results(100)
        last, before = stream.last_id, {r["id"]: r for r in stream.results()}
    assert pipeline.stop() == 0
    pipeline.start()
    assert {r["id"]: r for r in snapshot(at.url, "rows").results} == before
    with Subscriber(at.url, last_event_id=last) as stream, IngestClient(at.url) as client:
        client.send(message("t", "k0", {"i": 0}))  # a rewrite that changes nothing
        client.send(message("t", "fresh", 1))
        stream.wait_results(1)
        time.sleep(0.2)
        assert [r["key"] for r in stream.results()] == ["fresh"]


class Load:
    """Clients that post until the server goes away; `acked` holds the keys whose ack came."""

    def __init__(
        self, url: str, clients: int = 3, *, name: str = "c", rows: int = 20, pause_s: float = 0.0
    ) -> None:
        self.acked: list[str] = []
        self.statuses: set[int] = set()
        self._url, self._name, self._rows, self._pause_s = url, name, rows, pause_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _run(self, number: int) -> None:
        n = 0
        with IngestClient(self._url, timeout_s=10) as client:
            while not self._stop.wait(self._pause_s):
                n += 1
                keys = [f"{self._name}{number}-{n}-{i}" for i in range(self._rows)]
                try:
                    answer = client.offer([message("t", key, {"n": n}) for key in keys])
                except urllib3.exceptions.HTTPError:
                    return
                self.statuses.add(answer.status)
                if answer.status != 200:
                    return
                self.acked += keys


def keys_in(url: str, join: str = "rows") -> set[str]:
    return {r["key"] for r in snapshot(url, join, limit="1000000").results}


def shows_keys(url: str, wanted: set[str]) -> bool:
    return keys_in(url) == wanted


def test_sigterm_under_load_keeps_every_acked_message(launch: Launcher) -> None:
    pipeline, at = started(launch)
    with Load(at.url) as load:
        eventually(lambda: len(load.acked) > 1000, 20)
        began = time.monotonic()
        pipeline.signal(signal.SIGTERM)
        assert_clean(pipeline, began)
    assert load.statuses <= {200, 503}
    pipeline.start()
    eventually(lambda: set(load.acked) <= keys_in(at.url))


def test_sigterm_delivers_what_was_acked_before_it_ends(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    at = Listener()
    config = push_config(
        at, JOIN, sinks=[http_sink(receiver.url)], delivery={"guarantee": "at_least_once"}
    )
    pipeline = launch(config, at.health)
    receiver.default = lambda _request: Reply(delay_s=0.02)
    with IngestClient(at.url) as client:
        client.send([message("t", f"k{i}", i) for i in range(100)])
    began = time.monotonic()
    pipeline.signal(signal.SIGTERM)
    assert_clean(pipeline, began, 25)
    assert {r.json["key"] for r in receiver.delivered()} == {f"k{i}" for i in range(100)}


def hanging(launch: Launcher, receiver: WebhookReceiver, *args: str) -> tuple[Pipeline, Listener]:
    """A pipeline with a delivery in flight that never ends."""
    at = Listener()
    receiver.always(Reply(hang=True))
    sinks = [http_sink(receiver.url, timeout="60s"), sse_sink(at)]
    config = push_config(at, JOIN, sinks=sinks, delivery={"guarantee": "at_least_once"})
    pipeline = launch(config, at.health, args=args)
    with IngestClient(at.url) as client:
        client.send([message("t", f"k{i}", i) for i in range(50)])
    receiver.wait_requests(1)
    return pipeline, at


def test_a_second_signal_exits_at_once_and_loses_nothing(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    pipeline, at = hanging(launch, receiver)
    pipeline.signal(signal.SIGTERM)
    time.sleep(0.5)
    if pipeline.exit_code is None:
        began = time.monotonic()
        pipeline.signal(signal.SIGTERM)
        pipeline.wait_exit(10)
        assert time.monotonic() - began < 2 * SLOW
    assert "Traceback" not in pipeline.output(), pipeline.output()
    assert_recovers(pipeline, at, receiver)


def test_a_hanging_sink_cannot_hold_the_drain_past_its_timeout(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    pipeline, at = hanging(launch, receiver, "--graceful-timeout", "3s")
    began = time.monotonic()
    pipeline.signal(signal.SIGTERM)
    pipeline.wait_exit(35)
    took = time.monotonic() - began
    print(f"drained beside a hanging sink in {took:.1f} s of 3 s")
    assert took < 8 * SLOW
    assert_recovers(pipeline, at, receiver)


def assert_recovers(pipeline: Pipeline, at: Listener, receiver: WebhookReceiver) -> None:
    """After another start everything that was acked is there, and is delivered at last."""
    receiver.close()
    receiver.default = lambda _request: Reply()
    receiver.up()
    pipeline.start()
    wanted = {f"k{i}" for i in range(50)}
    eventually(lambda: keys_in(at.url) == wanted)
    eventually(lambda: {r.json["key"] for r in receiver.delivered()} == wanted, 20)


def test_health_says_draining_and_ingest_is_refused_while_stopping(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    pipeline, at = hanging(launch, receiver)
    with IngestClient(at.url) as client:
        assert client.get("/health").status == 200
        pipeline.signal(signal.SIGTERM)
        seen: list[tuple[int, str]] = []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not seen:
            try:
                answer = client.get("/health")
            except urllib3.exceptions.HTTPError:
                break  # the listener is closed already: nothing can be accepted any more
            if answer.status != 200:
                seen.append((answer.status, answer.body["status"]))
                refused = client.offer(message("t", "late", 1))
                assert refused.status == 503, refused
    assert seen in ([], [(503, "draining")])


def test_data_survives_many_stops_and_starts(launch: Launcher) -> None:
    pipeline, at = started(launch, storage={"shard_count": 2})
    epoch = ""
    for n in range(4):
        with IngestClient(at.url) as client:
            client.send([message("t", f"round{n}-{i}", n) for i in range(10)])
        if n % 2:
            assert pipeline.stop() == 0
            pipeline.start()
        else:
            pipeline.restart()
        wanted = {f"round{m}-{i}" for m in range(n + 1) for i in range(10)}
        eventually(partial(shows_keys, at.url, wanted))
        position = snapshot(at.url, "rows").position
        assert epoch in ("", position.split("-")[0]), "the epoch changed over a restart"
        epoch = position.split("-")[0]
