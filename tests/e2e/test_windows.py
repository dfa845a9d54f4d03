"""Windows through the real daemon: conformance/03, and kill -9 while windows are open."""

import json
import random
import time
from datetime import datetime
from typing import Any

from tests.harness.configs import CONFORMANCE, Listener, substitute
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually

START_S = 1_760_000_000


def test_03_windows_close_by_the_wall_clock_and_count_every_message(launch: Launcher) -> None:
    push, sse = Listener(), Listener()
    text = substitute(
        (CONFORMANCE / "03-windows.yaml").read_text(encoding="utf-8"),
        {
            "127.0.0.1:8080": f"127.0.0.1:{push.port}", "127.0.0.1:9100": f"127.0.0.1:{sse.port}",
            "size: 5m": "size: 2s", "size: 10m": "size: 3s", "slide: 1m": "slide: 1s",
            "gap: 30m": "gap: 3s",
        },
    )  # fmt: skip
    launch(text, sse.health)
    client = IngestClient(push.url)
    sent = 0
    with Subscriber(sse.url, "*") as stream:
        for number in range(8):
            rows = [message("orders", "same", {"amount": 2.5 * number}) for _ in range(3)]
            client.send([*rows, message("user_events", f"u{number}", {"n": 1})])
            sent += 3
            time.sleep(0.1)
        stream.wait(lambda s: counted(s, "order-count", "order_count") == sent, timeout_s=30)
        stream.wait(lambda s: counted(s, "user-session", "event_count") == 8, timeout_s=30)
        # Three windows of 3 s that start every second hold each message.
        stream.wait(lambda s: counted(s, "avg-order", "count") == 3 * sent, timeout_s=30)
        tumbling = stream.results("order-count")
        assert sum(r["rows"][0]["total_revenue"] for r in tumbling) == 3 * 2.5 * sum(range(8))
        assert all(_seconds(r) == 2 for r in tumbling)
    shown = snapshot(sse.url, "order-count").results
    assert [r["window"] for r in shown] == [tumbling[-1]["window"]]


def counted(stream: Subscriber, window: str, column: str) -> int:
    return sum(result["rows"][0][column] for result in stream.results(window))


def _seconds(result: dict[str, Any]) -> float:
    start, end = (datetime.fromisoformat(result["window"][k]) for k in ("start", "end"))
    return (end - start).total_seconds()


def test_kill_9_while_windows_are_open_loses_and_doubles_nothing(launch: Launcher) -> None:
    push, sse = Listener(), Listener()
    config = {
        "storage": {"shard_count": 2, "data_dir": "data"},
        "sources": [
            {"type": "http", "name": "in", "topics": ["orders"],
             "config": {"addr": f"127.0.0.1:{push.port}"}},
        ],
        "windows": [
            {"name": "w", "type": "tumbling", "size": "10s", "topic": "orders", "time_path": "at",
             "partition_by": "g", "idle_timeout": "1h", "sink": "out",
             "query": "SELECT count(*) AS n, sum(payload ->> '$.v') AS total FROM orders"},
        ],
        "sinks": [{"type": "sse", "name": "out", "config": {"addr": f"127.0.0.1:{sse.port}"}}],
    }  # fmt: skip
    rng = random.Random(7)
    expected: dict[tuple[int, str], list[int]] = {}
    at = START_S
    pipeline = launch(json.dumps(config), sse.health)
    for _round in range(4):
        client = IngestClient(push.url)
        for _ in range(12):
            rows = []
            for _ in range(10):
                group, value = rng.choice("ab"), rng.randrange(100)
                fields = {"at": at, "g": group, "v": value}
                rows.append(message("orders", rng.choice("xyz"), fields))
                found = expected.setdefault((at - at % 10, group), [0, 0])
                found[0] += 1
                found[1] += value
            client.send(rows)
            at += rng.choice([1, 2])
        pipeline.kill()
        pipeline.start()
    client = IngestClient(push.url)
    client.send([message("orders", "end", {"at": at + 60, "g": "c", "v": 0})])
    epoch = json.loads((pipeline.work_dir / "data" / "manifest.json").read_text())["epoch"]
    with Subscriber(sse.url, "w", last_event_id=f"{epoch[:8]}-0") as stream:
        stream.wait_results(len(expected), timeout_s=30)
        time.sleep(0.3)
        fired = stream.results()
    assert len(fired) == len(expected), "each window fires once"
    assert {
        (_start_s(r), r["key"]): [r["rows"][0]["n"], r["rows"][0]["total"]] for r in fired
    } == expected
    assert [r["seq"] for r in fired] == sorted({r["seq"] for r in fired})


def test_a_join_over_a_window_goes_on_after_kill_9(launch: Launcher) -> None:
    push, sse = Listener(), Listener()
    config = {
        "storage": {"shard_count": 2, "data_dir": "data"},
        "sources": [
            {"type": "http", "name": "in", "topics": ["orders", "users"],
             "config": {"addr": f"127.0.0.1:{push.port}"}},
        ],
        "windows": [
            {"name": "w", "type": "tumbling", "size": "10s", "topic": "orders", "time_path": "at",
             "idle_timeout": "1h", "sink": "out", "key_column": "user",
             "query": "SELECT payload ->> '$.u' AS user, count(*) AS n FROM orders GROUP BY 1"},
        ],
        "joins": [
            {"name": "named", "sink": "out",
             "query": "SELECT u.key, u.payload ->> '$.name' AS name, w.n FROM users u"
             " LEFT JOIN w ON w.user = u.key"},
        ],
        "sinks": [{"type": "sse", "name": "out", "config": {"addr": f"127.0.0.1:{sse.port}"}}],
    }  # fmt: skip
    pipeline = launch(json.dumps(config), sse.health)
    client = IngestClient(push.url)
    client.send([message("users", "a", {"name": "Ann"}), message("users", "b", {"name": "Bob"})])
    client.send([message("orders", f"o{n}", {"at": START_S + n % 2, "u": "a"}) for n in range(5)])
    client.send([message("orders", "next", {"at": START_S + 11, "u": "b"})])
    until_shown(sse.url, {"a": ("Ann", 5), "b": ("Bob", None)})
    pipeline.kill()
    pipeline.start()
    client = IngestClient(push.url)
    client.send([message("orders", "end", {"at": START_S + 25, "u": "c"})])
    client.send([message("users", "b", {"name": "Bea"})])
    until_shown(sse.url, {"a": ("Ann", None), "b": ("Bea", 1)})


def until_shown(url: str, wanted: dict[str, Any]) -> None:
    def check() -> bool:
        rows = [each["rows"][0] for each in snapshot(url, "named").results]
        assert {row["key"]: (row["name"], row["n"]) for row in rows} == wanted
        return True

    eventually(check, timeout_s=30)


def _start_s(result: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(result["window"]["start"]).timestamp())
