"""What takes long by its nature: heartbeats, cut clients, a runaway query.

All of it is started at once by one fixture, so that the waits overlap; each test asks for its own
part.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline
from tests.harness.sse import DeafSubscriber, Subscriber
from tests.harness.waiting import SLOW, eventually

pytestmark = pytest.mark.slow

ENDLESS = (
    "SELECT t.key, (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT COUNT(*) FROM n) AS c FROM t"
)


ENDLESS_AT_START = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT 'all' AS k, COUNT(*) AS c, (SELECT COUNT(*) FROM t) AS m FROM n"
)


@dataclass
class Scene:
    """Three pipelines: one with patient clients, two with a query that never ends, of which one
    is computed at the start already.
    """

    calm: Pipeline
    calm_at: Listener
    busy: Pipeline
    busy_at: Listener
    began: float
    idle: Subscriber
    deaf: DeafSubscriber
    quick: Subscriber
    starting: Pipeline
    cut: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def scene(launch_shared: Launcher) -> Iterator[Scene]:
    calm_at, busy_at = Listener(), Listener()
    calm_joins = {"rows": "SELECT key, payload FROM t", "big": "SELECT key, payload FROM big"}
    calm = launch_shared(push_config(calm_at, calm_joins), calm_at.health)
    busy_joins = {"endless": ENDLESS, "quick": "SELECT key, payload FROM t"}
    busy = launch_shared(push_config(busy_at, busy_joins), busy_at.health)
    start_at = Listener()
    start_joins = {"endless": ENDLESS_AT_START, "quick": "SELECT key, payload FROM t"}
    starting = launch_shared.prepare(
        push_config(start_at, start_joins), health_url=start_at.health
    ).spawn()
    with ExitStack() as stack:
        made = Scene(
            calm, calm_at, busy, busy_at, time.monotonic(),
            stack.enter_context(Subscriber(calm_at.url, "rows")),
            stack.enter_context(DeafSubscriber(calm_at.port, "big")),
            stack.enter_context(Subscriber(busy_at.url, "quick")),
            starting,
        )  # fmt: skip
        threading.Thread(target=_slow_loris, args=(calm_at.port, made.cut), daemon=True).start()
        with IngestClient(busy_at.url) as client:
            client.send(message("t", "first", 1))
        with IngestClient(calm_at.url) as client:
            for n in range(
                20
            ):  # 20 MB: more than the kernel buffers for a client that does not read
                client.send([message("big", f"{n}-{i}", "x" * 10_000) for i in range(100)])
        yield made


def _slow_loris(port: int, cut: list[float]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as conn:
        conn.sendall(b"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        began = time.monotonic()
        try:
            while conn.recv(1000):
                pass
        except ConnectionError:
            pass
        cut.append(time.monotonic() - began)


def test_a_request_whose_head_never_ends_is_cut_after_ten_seconds(scene: Scene) -> None:
    eventually(lambda: scene.cut, 20)
    assert 9 < scene.cut[0] < 15 * SLOW


def test_an_idle_subscriber_gets_heartbeats(scene: Scene) -> None:
    eventually(lambda: scene.idle.comments and scene.idle.comments[-1][0] - scene.began > 12, 20)
    assert not scene.idle.closed


def test_a_runaway_query_is_interrupted_reported_and_delays_the_others_not_forever(
    scene: Scene,
) -> None:
    """Semantics 18."""
    scene.quick.wait_results(1, "quick", timeout_s=60)
    waited = time.monotonic() - scene.began
    print(f"the join beside a runaway query was told after {waited:.1f} s")
    eventually(lambda: "endless" in scene.busy.log() and "deadline" in scene.busy.log())
    scene.busy.assert_running()


def test_a_runaway_query_does_not_hold_up_the_start_forever(scene: Scene) -> None:
    scene.starting.wait_healthy(60)
    assert "endless" in scene.starting.log()
    assert scene.starting.stop() == 0


def test_a_deaf_subscriber_is_cut(scene: Scene) -> None:
    eventually(scene.deaf.is_cut, 60)
    scene.calm.assert_running()
    with IngestClient(scene.calm_at.url) as client:
        client.send(message("t", "live", 1))
    scene.idle.wait_results(1)
