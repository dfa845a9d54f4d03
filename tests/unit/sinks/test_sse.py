"""Subscribers: every change once, in order, across cuts; slow ones hurt nobody."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from litejoin.errors import LiteJoinError, OverloadedError, RequestError
from litejoin.sinks.sse import client as client_module
from litejoin.sinks.sse import hub as hub_module
from litejoin.sinks.sse.hub import SseHub
from litejoin.sinks.sse.snapshot import SnapshotApp
from litejoin.sinks.sse.subscribe import SubscribeApp
from litejoin.store.log import ResultLog
from litejoin.store.signal import LogSignal
from tests.unit.sinks.asgi_client import Call, call
from tests.unit.store.state_writer import StateWriter

EPOCH = "0123456789abcdef"


class Served:
    """A hub over a real state.db."""

    def __init__(self, writer: StateWriter, hub: SseHub, signal: LogSignal) -> None:
        self.writer, self.hub, self.signal = writer, hub, signal
        self.subscribe_app, self.snapshot_app = SubscribeApp(hub), SnapshotApp(hub)
        self.calls: list[Call] = []

    def put(self, join: str, key: Any, *rows: dict[str, Any]) -> int:
        pos = self.writer.put(join, key, *rows)
        self.signal.publish(pos)
        return pos

    async def subscribe(self, resume: str | None = None, **query: str | list[str]) -> Call:
        headers = {"Last-Event-ID": resume} if resume else {}
        made = call(self.subscribe_app, {"join": "*", **query}, headers)
        self.calls.append(made)
        await until(lambda: bool(made.body) or made.task.done())
        return made

    async def snapshot(self, **query: str | list[str]) -> Call:
        made = call(self.snapshot_app, {"join": "*", **query})
        await made.task
        return made


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    writer = StateWriter(tmp_path / "state.db", "orders", "users", "secret")
    yield writer
    writer.close()


@asynccontextmanager
async def serving(writer: StateWriter, max_clients: int = 100) -> AsyncIterator[Served]:
    hub = SseHub(["orders", "users"], ["users"], max_clients)
    reader, signal = ResultLog(writer.path, "shop", EPOCH), LogSignal(writer.head)
    fatal: list[Exception] = []
    hub.open(reader, signal, fatal.append)
    served = Served(writer, hub, signal)
    yield served
    await hub.close()
    done = await asyncio.gather(*(c.task for c in served.calls), return_exceptions=True)
    assert not fatal, fatal
    assert not [e for e in done if e is not None and not isinstance(e, LiteJoinError)]


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 30  # a busy machine is not a failure
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "timed out"
        await asyncio.sleep(0.002)


def run(
    writer: StateWriter, story: Callable[[Served], Coroutine[Any, Any, None]], **options: Any
) -> None:
    async def main() -> None:
        async with serving(writer, **options) as served:
            await story(served)

    asyncio.run(main())


def test_changes_arrive_as_documented(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        stream = await served.subscribe(join="orders")
        assert stream.headers["content-type"] == "text/event-stream"
        served.put("orders", "a", {"order_id": "a", "amount": 45.0})
        served.put("users", "u", {"n": 1})
        served.put("orders", "a")
        await until(lambda: len(stream.events) == 2)
        first, second = stream.events
        assert (first.name, first.id) == ("join_result", "01234567-1")
        assert first.data["query"] == "orders"
        assert first.data["rows"] == [{"order_id": "a", "amount": 45.0}]
        assert (second.data["op"], second.data["rows"], second.id) == ("delete", [], "01234567-3")
        await stream.leave()
        assert served.hub.health() == {"status": "ok", "clients": 0, "behind": 0, "events": 2}

    run(writer, story)


def test_only_wanted_joins_and_keys_arrive(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        everything = await served.subscribe()
        users = await served.subscribe(join="users")
        number = await served.subscribe(key="5")
        several = await served.subscribe(key=["x", "last"])
        text = await served.subscribe(join="orders", key='zürich "1"')
        for key in ("5", 5, "x", 'zürich "1"'):
            served.put("orders", key, {"n": 1})
        served.put("users", 5, {"n": 1})
        served.put("users", 5)
        served.put("secret", 5, {"n": 1})
        served.put("orders", "last", {"n": 1})
        await until(lambda: 8 in everything.seqs() and bool(users.seqs()))
        await asyncio.sleep(0.01)
        assert everything.seqs() == [1, 2, 3, 4, 5, 8], "no deletes of users, nothing of secret"
        assert users.seqs() == [5]
        assert number.seqs() == [1, 2, 5]
        assert text.seqs() == [4]
        assert several.seqs() == [3, 8]

    run(writer, story)


def test_replay_sends_the_state_then_says_so_then_goes_on(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        for n in range(600):
            served.put("orders", n % 300, {"n": n})
        stream = await served.subscribe(replay="true")
        await until(lambda: "replay_complete" in [e.name for e in stream.events])
        served.put("orders", 7, {"n": "new"})
        await until(lambda: 601 in stream.seqs())
        names = [e.name for e in stream.events]
        assert names == ["join_result"] * 300 + ["replay_complete"] + ["join_result"]
        assert all(e.data["_replay"] is True for e in stream.events[:300])
        assert stream.seqs() == list(range(301, 602))
        assert "_replay" not in stream.events[-1].data
        assert stream.events[300].data == {"position": "01234567-600"}

    run(writer, story)


def test_a_replay_that_is_cut_resumes_with_its_last_id(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        for n in range(600):
            served.put("orders", n % 300, {"n": n})
        stream = await served.subscribe(replay="true")
        await until(lambda: 400 in stream.seqs())
        half = stream.body[: stream.body.index(b"id: 01234567-400\n")]
        seen = {seq for seq in stream.seqs() if f'"seq":{seq},'.encode() in half}
        again = await served.subscribe(resume="01234567-399", replay="true")
        await until(lambda: 600 in again.seqs())
        assert seen | set(again.seqs()) >= set(range(301, 601))
        assert again.seqs() == list(range(400, 601)), "no second replay"

    run(writer, story)


def test_a_stream_has_a_position_before_its_first_event(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        served.put("orders", "a", {"n": 1})
        await asyncio.sleep(0.01)
        stream = await served.subscribe()
        assert stream.last_id == "01234567-1"
        await stream.leave()
        served.put("orders", "b", {"n": 1})
        again = await served.subscribe(resume=stream.last_id)
        await until(lambda: again.seqs() == [2])

    run(writer, story)


@pytest.mark.parametrize(
    "resume", ["ffffffff-3", "01234567-99", "nonsense", "01234567-", "01234567--1", "01234567-1x"]
)
def test_a_position_that_cannot_be_continued_resets(writer: StateWriter, resume: str) -> None:
    async def story(served: Served) -> None:
        served.put("orders", "a", {"n": 1})
        served.put("orders", "b", {"n": 1})
        stream = await served.subscribe(resume=resume)
        await until(lambda: "replay_complete" in [e.name for e in stream.events])
        served.put("orders", "c", {"n": 1})
        await until(lambda: 3 in stream.seqs())
        names = [e.name for e in stream.events]
        assert names == ["reset", "join_result", "join_result", "replay_complete", "join_result"]
        assert stream.events[0].data["reason"]

    run(writer, story)


def test_a_position_older_than_the_log_resets(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        for n in range(10):
            served.put("orders", n % 2, {"n": n})
        writer.trim(8)
        stream = await served.subscribe(resume="01234567-7")
        await until(lambda: len(stream.events) == 4)
        assert [e.name for e in stream.events][0] == "reset"
        assert stream.seqs() == [9, 10]
        exact = await served.subscribe(resume="01234567-8")
        await until(lambda: exact.seqs() == [9, 10])
        assert [e.name for e in exact.events] == ["join_result"] * 2

    run(writer, story)


def test_snapshot_plus_subscription_has_no_gap_and_no_overlap(writer: StateWriter) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)

    def change(served: Served) -> None:
        served.put(
            "orders", rng.randrange(20), *([{"n": rng.random()}] if rng.random() < 0.8 else [])
        )

    async def follow(served: Served) -> tuple[dict[Any, Any], Call]:
        snapshot = await served.snapshot(join="orders")
        state = {r["key"]: r for r in await parsed(snapshot)}
        stream = await served.subscribe(resume=snapshot.headers["litejoin-position"], join="orders")
        return state, stream

    async def story(served: Served) -> None:
        followers = []
        for _ in range(15):
            for _ in range(rng.randrange(20)):
                change(served)
            task = asyncio.ensure_future(follow(served))
            for _ in range(rng.randrange(20)):
                change(served)
                await asyncio.sleep(0)
            followers.append(await task)
        last = served.put("orders", "end", {"n": 0})
        oracle = {r["key"]: r for r in await parsed(await served.snapshot(join="orders"))}
        for state, stream in followers:
            await until(lambda s=stream: last in s.seqs())  # type: ignore[misc]
            seen = stream.seqs()
            assert seen == sorted(set(seen)), "in order, none twice"
            for event in stream.events:
                assert event.name == "join_result"
                state[event.data["key"]] = event.data
            live = {k: r for k, r in state.items() if r["op"] == "upsert"}
            assert live == oracle

    run(writer, story)


async def parsed(answer: Call) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(answer.body)
    return found


def test_a_client_cut_at_random_sees_every_change_once(writer: StateWriter) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)

    async def story(served: Served) -> None:
        stream, seen = await served.subscribe(), list[int]()
        for n in range(400):
            served.put("orders", n % 9, {"n": n})
            if rng.random() < 0.05:
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                await stream.leave()
                seen += stream.seqs()
                stream = await served.subscribe(resume=stream.last_id)
        # a cut right after the last change may have brought it already: nothing is left to wait for
        await until(lambda: 400 in seen + stream.seqs())
        seen += stream.seqs()
        assert seen == list(range(1, 401))

    run(writer, story)


def test_a_slow_client_falls_behind_with_a_bounded_buffer_and_loses_nothing(
    writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "BUFFER_BYTES", 4_000)

    async def story(served: Served) -> None:
        slow, quick = await served.subscribe(), await served.subscribe()
        await until(lambda: served.hub.health()["behind"] == 0)
        slow.reading.clear()
        for n in range(300):
            served.put("orders", n, {"n": n})
            await asyncio.sleep(0)
        await until(lambda: 300 in quick.seqs())
        assert served.hub.health()["behind"] == 1
        held = [c._buffered for c in served.hub._clients]
        assert max(held) <= 4_000
        slow.reading.set()
        await until(lambda: 300 in slow.seqs())
        assert slow.seqs() == quick.seqs() == list(range(1, 301))
        assert served.hub.health()["behind"] == 0

    run(writer, story)


def test_a_client_that_takes_nothing_is_cut(
    writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "STALL_S", 0.05)
    monkeypatch.setattr(hub_module, "HEARTBEAT_S", 0.03)

    async def story(served: Served) -> None:
        stuck, well = await served.subscribe(), await served.subscribe()
        stuck.reading.clear()
        served.put("orders", 1, {"n": 1})
        await until(lambda: stuck.task.done())
        assert not stuck.complete, "an answer that does not end is what makes a server cut"
        assert served.hub.health()["clients"] == 1
        assert not well.task.done()

    run(writer, story)


def test_heartbeats_keep_a_quiet_stream_alive_and_its_position_fresh(
    writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HEARTBEAT_S", 0.02)

    async def story(served: Served) -> None:
        stream = await served.subscribe(key="never")
        served.put("orders", "other", {"n": 1})
        await until(lambda: b": heartbeat\nid: 01234567-1\n\n" in stream.body)
        assert stream.events == []

    run(writer, story)


def test_closing_ends_every_stream_cleanly(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        streams = [await served.subscribe() for _ in range(5)]
        await served.hub.close()
        await until(lambda: all(s.complete for s in streams))
        with pytest.raises(OverloadedError):
            await served.snapshot()

    run(writer, story)


def test_a_hub_without_storage_answers_503() -> None:
    async def story() -> None:
        hub = SseHub(["orders"], [], 10)
        for app in (SubscribeApp(hub), SnapshotApp(hub)):
            with pytest.raises(OverloadedError):
                await call(app, {"join": "*"}).task
        assert hub.health()["status"] == "starting"
        await hub.close()

    asyncio.run(story())


def test_one_client_too_many_is_refused(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        first = await served.subscribe()
        await served.subscribe()
        refused = call(served.subscribe_app, {"join": "*"})
        with pytest.raises(OverloadedError, match="2 subscribers"):
            await refused.task
        await first.leave()
        assert (await served.subscribe()).status == 200

    run(writer, story, max_clients=2)


def test_head_requests_get_the_head_only(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        made = call(served.subscribe_app, {"join": "*"}, method="HEAD")
        await made.task
        assert (made.status, made.body, made.complete) == (200, b"", True)

    run(writer, story)


BAD = [
    ("subscribe", {"join": ""}, "join is missing"),
    ("subscribe", {"join": "nope"}, "orders, users"),
    ("subscribe", {"join": "secret"}, "no join"),
    ("subscribe", {"replay": "perhaps"}, "replay"),
    ("snapshot", {"join": "nope"}, "no join"),
    ("snapshot", {"limit": "0"}, "limit"),
    ("snapshot", {"limit": "-1"}, "limit"),
    ("snapshot", {"limit": "many"}, "limit"),
    ("snapshot", {"limit": "99999999999999999999"}, "limit"),
    ("snapshot", {"limit": "²"}, "limit"),
    ("snapshot", {"from": "yesterday"}, "from"),
    ("snapshot", {"to": "nan"}, "to must"),
    ("snapshot", {"to": "2026-13-01T00:00:00Z"}, "to must"),
    ("snapshot", {"from": "20", "to": "10"}, "later"),
    ("snapshot", {"keys": "a," * 1001}, "keys"),
    ("snapshot", {"keys": ["a", "b"]}, "given twice"),
    ("subscribe", {"replay": ["true", "false"]}, "given twice"),
    ("snapshot", {f"x{n}": "1" for n in range(60)}, "query string"),
]


@pytest.mark.parametrize(("kind", "query", "reason"), BAD)
def test_bad_parameters_are_named(
    writer: StateWriter, kind: str, query: dict[str, str], reason: str
) -> None:
    async def story(served: Served) -> None:
        app = served.subscribe_app if kind == "subscribe" else served.snapshot_app
        with pytest.raises(RequestError, match=reason) as refused:
            await call(app, {"join": "*", **query}).task
        assert refused.value.status == 400

    run(writer, story)


def test_the_snapshot_is_the_current_state_as_json(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        assert await parsed(await served.snapshot()) == []
        for n in range(1_000):
            served.put(
                "orders",
                n % 700,
                {"n": n},
            )
        served.put("orders", 3)
        served.put("users", "u", {"n": 1})
        answer = await served.snapshot()
        found = await parsed(answer)
        assert [r["seq"] for r in found] == [p for p in range(301, 1001) if p != 704] + [1002]
        assert answer.headers["litejoin-position"] == "01234567-1002"
        assert "litejoin-truncated" not in answer.headers
        assert "_replay" not in found[0]
        some = await served.snapshot(join="orders", keys="5,6,3,none")
        assert [r["key"] for r in await parsed(some)] == [5, 6]
        few = await served.snapshot(limit="300")
        assert len(await parsed(few)) == 300
        assert few.headers["litejoin-truncated"] == "true"

    run(writer, story)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [({"key": "a,b"}, ["a,b"]), ({"key": ["a,b", "c"]}, ["a,b", "c"]),
     ({"keys": "a,b"}, ["a", "b"]), ({"keys": "a,c", "key": "a,b"}, ["a", "a,b", "c"]),
     ({"key": ""}, [""]), ({"keys": ""}, ["", "a", "a,b", "b", "c"]), ({"key": "none"}, [])],
)  # fmt: skip
def test_keys_are_named_one_by_one_or_in_a_list(
    writer: StateWriter, query: dict[str, str | list[str]], wanted: list[str]
) -> None:
    async def story(served: Served) -> None:
        for key in ("a,b", "a", "b", "c", ""):
            served.put("orders", key, {"n": 1})
        assert sorted(r["key"] for r in await parsed(await served.snapshot(**query))) == wanted

    run(writer, story)


def test_the_snapshot_can_be_bounded_by_emit_time(writer: StateWriter) -> None:
    async def story(served: Served) -> None:
        for n in range(10):
            writer.put("orders", n, {"n": n}, emit_at_ms=1_700_000_000_000 + n * 1000)
        first, last = "1700000003", "2023-11-14T22:13:25Z"
        for query in (
            {"from": first, "to": last},
            {"from": "2023-11-15T00:13:23+02:00", "to": last},
        ):
            assert [r["key"] for r in await parsed(await served.snapshot(**query))] == [3, 4, 5]

    run(writer, story)
