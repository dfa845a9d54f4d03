"""Many subscribers in one process that costs little: the client side of the SSE benchmark.

    python -m bench.e2e.sse_readers PORT CLIENTS EXPECTED [LAST_EVENT_ID]

Prints "ready" when all are connected, reads until EXPECTED events came in all, or nothing for
IDLE_S, and prints one JSON object: events, seconds from the first to the last byte, and latencies
(ms) of the payload field `sent_ns` (monotonic clock) at every SAMPLEth client.
"""

import json
import re
import select
import socket
import sys
import time

IDLE_S = 5.0
SAMPLE = 20
EVENT = b"\nevent: join_result"
SENT = re.compile(rb"sent_ns\D{1,8}(\d+)")


def connect(port: int, last_event_id: str) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port))
    resume = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
    stream.sendall(f"GET /subscribe?join=* HTTP/1.1\r\nHost: 127.0.0.1\r\n{resume}\r\n".encode())
    return stream


def main() -> None:
    port, count, expected = map(int, sys.argv[1:4])
    last_event_id = sys.argv[4] if len(sys.argv) > 4 else ""
    poll = select.epoll()
    streams = {}
    for number in range(count):
        stream = connect(port, last_event_id)
        if not last_event_id:
            stream.recv(4096)  # the head: it is subscribed from here on
        streams[stream.fileno()] = (stream, number % SAMPLE == 0, bytearray())
        poll.register(stream, select.EPOLLIN)
    print("ready", flush=True)
    latencies: list[float] = []
    events, first, last = 0, 0.0, time.monotonic()
    while events < expected:
        ready = poll.poll(IDLE_S if first else 120)
        if not ready:
            break
        for fd, _ in ready:
            stream, is_sampled, rest = streams[fd]
            piece = stream.recv(1 << 18)
            if not piece:
                poll.unregister(fd)
                continue
            # A marker may be cut in two: keep what could be its start.
            rest += piece
            cut = rest.rfind(b"\n\n") + 1
            whole, streams[fd] = bytes(rest[:cut]), (stream, is_sampled, rest[cut:])
            events += whole.count(EVENT)
            if is_sampled:
                now = time.monotonic_ns()
                latencies += [(now - int(sent)) / 1e6 for sent in SENT.findall(whole)]
        last = time.monotonic()
        first = first or last
    latencies.sort()
    print(json.dumps({
        "events": events, "seconds": last - first,
        "p50_ms": latencies[len(latencies) // 2] if latencies else None,
        "p99_ms": latencies[int(len(latencies) * 0.99)] if latencies else None,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
