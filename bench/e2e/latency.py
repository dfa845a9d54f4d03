"""POST to SSE event on an otherwise idle pipeline, at 10^4 and 10^6 stored orders.

    python -m bench.e2e.latency [N] [--sizes 10000,1000000]

One message in flight: an order, or a user with two orders, is posted; the clock stops when all of
its results have arrived at a subscriber.
"""

import argparse
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import report
from bench.e2e.daemon import Daemon, daemon
from bench.e2e.pipeline import JOIN, post_all, requests

SIZES = "10000,1000000"
Change = tuple[bytes, bytes, int]
HEAD = b"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def messages(orders: int) -> list[bytes]:
    users = [user(i, f"Name {i}") for i in range(orders // 2)]
    return users + [order(i, orders // 2, i * 7919) for i in range(orders)]


def user(i: int, name: str) -> bytes:
    return b'{"topic":"users","key":"u%07d","payload":{"name":"%b"}}' % (i, name.encode())


def order(i: int, users: int, amount: int) -> bytes:
    return b'{"topic":"orders","key":"o%08d","payload":{"user_id":"u%07d","amount":%d.25}}' % (
        i, i * 31 % users, amount,
    )  # fmt: skip


def subscribe(port: int) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port))
    stream.sendall(b"GET /subscribe?join=* HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    stream.settimeout(10)
    stream.recv(65536)
    return stream


def measure(running: Daemon, n: int, change: Callable[[int], Change]) -> dict[str, float]:
    """`change`: the n-th message, what its results hold, and how many there are."""
    stream = subscribe(running.port)
    with stream, socket.create_connection(("127.0.0.1", running.port)) as poster:
        for s in (stream, poster):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        acks, events = [], []
        for i in range(n):
            body, marker, results = change(i)
            started = time.perf_counter()
            poster.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert poster.recv(65536).startswith(b"HTTP/1.1 200")
            acks.append(time.perf_counter() - started)
            seen = b""
            while seen.count(marker) < results:
                seen += stream.recv(65536)
            events.append(time.perf_counter() - started)
    return {
        name: round(sorted(times)[int(len(times) * share)] * 1e3, 3)
        for name, times, share in (
            ("ack_p50_ms", acks, 0.5), ("ack_p99_ms", acks, 0.99),
            ("event_p50_ms", events, 0.5), ("event_p99_ms", events, 0.99),
        )
    }  # fmt: skip


def changes(orders: int) -> dict[str, Callable[[int], Change]]:
    """Changes all over the topics. A user has two orders, as 31 does not divide their number."""
    users = orders // 2

    def of_order(i: int) -> Change:
        amount = 10_000_000_000 + i
        return order(i * 7919 % orders, users, amount), b'"amount":%d.25' % amount, 1

    def of_user(i: int) -> Change:
        return user(i * 7919 % users, f"Renamed {i}"), b'"name":"Renamed %d"' % i, 2

    return {"order": of_order, "user": of_user}


def measure_size(orders: int, n: int) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        with daemon(folder, JOIN) as running:
            post_all(running.port, requests(messages(orders)))
            running.wait_until_evaluated(900)
            time.sleep(2)
            found = {name: measure(running, n, each) for name, each in changes(orders).items()}
            return {**found, "rss_mb": round(running.rss_mb(), 1)}
    finally:
        shutil.rmtree(folder)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("messages", nargs="?", type=int, default=2000)
    parser.add_argument("--sizes", default=SIZES)
    options = parser.parse_args(arguments)
    figures: dict[str, object] = {"messages": options.messages}
    for size in map(int, options.sizes.split(",")):
        figures[f"orders_{size}"] = measure_size(size, options.messages)
        print(json.dumps(figures), file=sys.stderr)
    report.write("latency", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
