"""What a poll costs: 100,000 records beside parsing their JSON alone, and 200 sources on one core.

    python -m bench.e2e.polls [POLLS]

The daemon's CPU and memory are read from /proc between two polls. Four kinds of polls of the same
100,000 records:

    same bytes     the body is the one before: its hash says so
    other bytes    a field beside the list moves, as `generated_at` does: each record's hash says so
    other records  an ignored field of every record moves (`ignore_fields: [seen_at]`): each record
                   is parsed and compared by its values
    1 % changed    of other bytes and of other records: another 1 % each poll is stored

The yardstick is the CPU of the fastest JSON parser here for the same body, in the same run.
"""

import gc
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec
import orjson

from bench import report
from bench.e2e.daemon import Daemon, daemon
from bench.e2e.feed import Feed, feed

RECORDS = 100_000
CHANGED = RECORDS // 100
SOURCES = 200
LATENCY_S = 0.3
"""Of an API far away: what sources may not wait for one after the other."""
WINDOW_S = 20.0
INTERVAL_S = 2.0
NO_JOINS = "  []\n"


def record(number: int, version: int, seen: int = 0) -> bytes:
    """About 250 bytes, as an order of a shop looks."""
    return (
        b'{"id":"order_%07d","status":"%s","version":%d,"customer":{"id":"u%06d",'
        b'"name":"Customer Number %d","email":"customer%d@example.com"},"total":%d.25,'
        b'"currency":"EUR","created_at":"2026-01-01T00:00:00Z","tags":["web"],"seen_at":%d}'
    ) % (number, b"paid" if version else b"pending", version, number % 50_000, number, number,
         number % 997, seen)  # fmt: skip


class Bodies:
    """The bodies of one run; `kind` says which comes next."""

    def __init__(self) -> None:
        self.kind = "same bytes"
        self._versions = [0] * RECORDS
        self._rounds = self._seen = 0
        self._list = self._make()

    def _make(self) -> bytes:
        return b",".join(record(n, v, self._seen) for n, v in enumerate(self._versions))

    def answer(self, _path: str, number: int) -> bytes:
        moved = number if self.kind != "same bytes" else 0
        return b'{"generated_at":%d,"orders":[%s]}' % (moved, self._list)

    def move(self) -> None:
        """Before a poll of this kind: what moves beside the list moves by itself."""
        if self.kind == "other records":
            self._seen += 1
            self._list = self._make()

    def change(self) -> None:
        """Change the next 1 % of the records, before the poll that shows them."""
        start = self._rounds * CHANGED % RECORDS
        self._rounds += 1
        self._versions[start : start + CHANGED] = [self._rounds] * CHANGED
        self._seen += self.kind == "other records"
        self._list = self._make()


def parse_cpu_s(body: bytes) -> tuple[str, float]:
    """The fastest parser and its CPU for one body: the best of five, garbage collection off."""
    parsers: dict[str, Callable[[bytes], object]] = {
        "orjson": orjson.loads,
        "msgspec": msgspec.json.Decoder().decode,
        "json": json.loads,
    }
    found = {}
    for name, parse in parsers.items():
        best = float("inf")
        for _ in range(5):
            gc.collect()
            gc.disable()
            began = time.process_time()
            value = parse(body)
            best = min(best, time.process_time() - began)
            gc.enable()
            del value
        found[name] = best
    name = min(found, key=lambda parser: found[parser])
    return name, found[name]


def polls_cpu_s(running: Daemon, upstream: Feed, count: int, step: Callable[[], None]) -> float:
    """Median CPU of a poll, from one arrival to the next; `step` runs between two polls."""
    spent = []
    for _ in range(count):
        upstream.wait(len(upstream.arrivals) + 1)
        before = threads_cpu_s(running)
        time.sleep(INTERVAL_S * 0.8)  # the poll is over by then, and the next has not begun
        spent.append(threads_cpu_s(running) - before)
        step()
    return median(spent)


def threads_cpu_s(running: Daemon) -> float:
    """CPU of the threads that live, to the nanosecond: a poll takes few clock ticks."""
    tasks = Path(f"/proc/{running.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def one_big_source(polls: int) -> dict[str, object]:
    """Cost of a poll of all records, beside the parser's."""
    bodies = Bodies()
    body = bodies.answer("", 0)
    parser, parse_s = parse_cpu_s(body)
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        with feed(bodies.answer) as upstream:
            source = (
                "  - {type: api, name: orders, topic: orders, api: {key_path: id,"
                f" url: 'http://127.0.0.1:{upstream.port}/orders', response_path: orders,"
                f" interval: {INTERVAL_S:g}s, detect_deletes: true, ignore_fields: [seen_at]}}}}\n"
            )
            with daemon(folder, NO_JOINS, sources=source) as running:
                start_mb = running.rss_mb()
                upstream.wait(2)
                time.sleep(INTERVAL_S * 0.8)
                first_mb = running.rss_mb("VmHWM")
                Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")
                cpu_s: dict[str, tuple[float, float]] = {}
                for kind in ("same bytes", "other bytes", "other records"):
                    bodies.kind = kind
                    still = polls_cpu_s(running, upstream, polls, bodies.move)
                    if kind == "same bytes":
                        cpu_s[kind] = still, still
                        continue
                    cpu_s[kind] = still, polls_cpu_s(running, upstream, polls, bodies.change)
                peak_mb = running.rss_mb("VmHWM")
                idle = idle_cpu_s(running)
    finally:
        shutil.rmtree(folder)
    return {
        "records": RECORDS,
        "body_mb": round(len(body) / 1e6, 1),
        "parser": parser,
        "parse_cpu_ms": round(parse_s * 1e3, 1),
        "idle_cpu_ms_in_that_time": round(idle * 1e3, 1),
        **{kind: beside(*spent, parse_s) for kind, spent in cpu_s.items()},
        # Against the process before its first poll: the state of 100,000 records is in it too.
        "first_poll_peak_rss_to_body": growth(start_mb, first_mb, body),
        "later_polls_peak_rss_to_body": growth(start_mb, peak_mb, body),
    }


def beside(unchanged_s: float, changed_s: float, parse_s: float) -> dict[str, float]:
    """The figures of one kind of poll, without change and with 1 % changed."""
    figures = {
        "unchanged_cpu_ms": round(unchanged_s * 1e3, 1),
        "unchanged_to_parse": round(unchanged_s / parse_s, 2),
    }
    if changed_s != unchanged_s:
        figures |= {
            "one_percent_changed_cpu_ms": round(changed_s * 1e3, 1),
            "changed_to_unchanged": round(changed_s / unchanged_s, 2),
            "changed_to_parse": round(changed_s / parse_s, 2),
        }
    return figures


def growth(start_mb: float, peak_mb: float, body: bytes) -> float:
    """Growth of the resident memory in bodies."""
    return round((peak_mb - start_mb) * 1024 * 1024 / len(body), 2)


def idle_cpu_s(running: Daemon) -> float:
    """What the daemon uses without a poll in the time that one is given: after the last one."""
    before = threads_cpu_s(running)
    time.sleep(INTERVAL_S * 0.1)
    return (threads_cpu_s(running) - before) * 8


def many_sources(latency_s: float = 0.0) -> dict[str, object]:
    """200 sources at 1 s on one core: who missed an interval, and what it cost.

    `latency_s`: what the API takes to answer.
    """
    small = b"[" + b",".join(record(n, 0) for n in range(20)) + b"]"

    def answer(_path: str, _number: int) -> bytes:
        time.sleep(latency_s)
        return small

    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        with feed(answer) as upstream:
            sources = "".join(
                f"  - {{type: api, name: s{n}, topic: t{n}, api: {{key_path: id,"
                f" url: 'http://127.0.0.1:{upstream.port}/s{n}', interval: 1s}}}}\n"
                for n in range(SOURCES)
            )
            prefix = ("taskset", "-c", "0")
            with daemon(folder, NO_JOINS, sources=sources, prefix=prefix) as running:
                upstream.wait(SOURCES * 3)
                began, cpu = time.monotonic(), running.cpu_s()
                time.sleep(WINDOW_S)
                took, spent = time.monotonic() - began, running.cpu_s() - cpu
                rss = running.rss_mb()
            arrivals = [(path, at) for path, at in upstream.arrivals if began <= at < began + took]
    finally:
        shutil.rmtree(folder)
    return {
        "sources": SOURCES,
        "latency_ms": round(latency_s * 1e3),
        "window_s": round(took, 1),
        "polls": len(arrivals),
        **missed(arrivals, took),
        "core_share": round(spent / took, 3),
        "cpu_ms_a_poll": round(spent / len(arrivals) * 1e3, 3),
        "rss_mb": round(rss, 1),
    }


def missed(arrivals: list[tuple[str, float]], took: float) -> dict[str, object]:
    """Gaps of more than 1.5 intervals, and the longest gap."""
    times: dict[str, list[float]] = {}
    for path, at in arrivals:
        times.setdefault(path, []).append(at)
    gaps = [b - a for ats in times.values() for a, b in zip(ats, ats[1:], strict=False)]
    silent = SOURCES - len(times)
    return {
        "missed_intervals": sum(gap > 1.5 for gap in gaps) + silent * int(took),
        "longest_gap_s": round(max(gaps), 3),
    }


def main() -> None:
    polls = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    figures: dict[str, object] = {"one_big_source": one_big_source(polls)}
    print(json.dumps(figures), file=sys.stderr)
    figures["many_sources"] = many_sources()
    figures["many_slow_sources"] = many_sources(LATENCY_S)
    report.write("polls", figures)


if __name__ == "__main__":
    main()
