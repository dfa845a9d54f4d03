"""POST to SSE event on an otherwise idle pipeline, at 10^4 and 10^6 stored orders.

    python -m bench.e2e.latency [N]

One message in flight: an order is posted, the clock stops when its result arrives at a subscriber.
"""

import json
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from bench import report
from bench.e2e.daemon import Daemon, daemon
from bench.e2e.pipeline import JOIN, post_all, requests

SIZES = (10_000, 1_000_000)


def messages(orders: int) -> list[bytes]:
    users = [
        b'{"topic":"users","key":"u%07d","payload":{"name":"Name %d"}}' % (i, i)
        for i in range(orders // 2)
    ]
    return users + [order(i, orders // 2, i * 7919) for i in range(orders)]


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


def measure(running: Daemon, orders: int, n: int) -> dict[str, float]:
    stream = subscribe(running.port)
    with socket.create_connection(("127.0.0.1", running.port)) as poster:
        for s in (stream, poster):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        acks, events = [], []
        for i in range(n):
            body = order(i * 7919 % orders, orders // 2, 10_000_000 + i)
            head = b"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            marker = b'"amount":%d.25' % (10_000_000 + i)
            started = time.perf_counter()
            poster.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert poster.recv(65536).startswith(b"HTTP/1.1 200")
            acks.append(time.perf_counter() - started)
            seen = b""
            while marker not in seen:
                seen += stream.recv(65536)
            events.append(time.perf_counter() - started)
    stream.close()
    return {
        name: round(sorted(times)[int(len(times) * share)] * 1e3, 3)
        for name, times, share in (
            ("ack_p50_ms", acks, 0.5), ("ack_p99_ms", acks, 0.99),
            ("event_p50_ms", events, 0.5), ("event_p99_ms", events, 0.99),
        )
    }  # fmt: skip


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    figures: dict[str, object] = {"messages": n}
    for size in SIZES:
        folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
        try:
            with daemon(folder, JOIN) as running:
                post_all(running.port, requests(messages(size)))
                running.wait_until_evaluated(900)
                time.sleep(2)
                figures[f"orders_{size}"] = {
                    **measure(running, size, n),
                    "rss_mb": round(running.rss_mb(), 1),
                }
                print(json.dumps(figures), file=sys.stderr)
        finally:
            shutil.rmtree(folder)
    report.write("latency", figures)


if __name__ == "__main__":
    main()
