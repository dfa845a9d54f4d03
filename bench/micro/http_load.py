"""HTTP ingest, one message a request: our listener beside uvicorn, over real sockets.

    python -m bench.micro.http_load [--seconds S] [--rounds N] [--out FILE]

Prints one JSON document: requests per second and the server's CPU microseconds per request, for 1
and for 64 connections. The server is a process of its own; servers take turns, round by round, so
that a busy machine slows them alike, and medians are reported.

    uvicorn      uvicorn (httptools, uvloop), an application that reads the body and answers
    listener     ours, the same application, with limits, host check and routing
    ingest       ours with POST /ingest: scan and pack; the intake is done at once
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.report import environment
from litejoin.clock import SystemClock
from litejoin.plan.nodes import Address, HttpSourcePlan, ServerLimits, ServerPlan
from litejoin.runtime.server import Listeners
from litejoin.sources.http import HttpSource

SERVERS = ("uvicorn", "listener", "ingest")
CONNECTIONS = (1, 64)
LIMITS = ServerLimits(8 << 20, 10_000, 64, 512, 1 << 20, 1_000, 100, 10_000, 60_000)
BODY = (
    b'{"topic":"orders","key":"o00000001","payload":{"user_id":"u0000001","amount":12.5,'
    b'"note":"n1"},"timestamp":1763900000001}'
)
REQUEST = (
    b"POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
ANSWER = b'{"accepted":1}'


async def read_and_answer(scope: Any, receive: Any, send: Any) -> None:
    """The least that an application does with a request."""
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(ANSWER)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


class DoneAtOnce:
    """An intake that keeps nothing."""

    def topic_number(self, name: str) -> int:
        return 1

    def submit(self, batch: bytes, rows: int) -> "asyncio.Future[None]":
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def room(self) -> None:
        """There always is."""


async def serve(kind: str, port: int) -> None:
    address = Address("127.0.0.1", port)
    if kind == "uvicorn":
        import uvicorn

        config = uvicorn.Config(
            read_and_answer, port=port, http="httptools", lifespan="off", log_config=None
        )
        await uvicorn.Server(config).serve()
        return
    listeners = Listeners(ServerPlan(address, (), None, None, (), LIMITS), lambda: {"status": "ok"})
    source = HttpSource((HttpSourcePlan("in", (), address),), DoneAtOnce(), LIMITS, SystemClock())
    handler = read_and_answer if kind == "listener" else source.ingest
    listeners.add(address, "POST", "/ingest", handler, "ingest")
    await listeners.start()
    await asyncio.Event().wait()


class LoadClient(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if data.endswith(ANSWER):
            self._counts[0] += 1
            self._transport.write(REQUEST)


async def load(port: int, connections: int, seconds: float) -> float:
    """Requests per second that were answered."""
    loop = asyncio.get_running_loop()
    counts = [0]
    made = [
        await loop.create_connection(lambda: LoadClient(counts), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(0.2)
    before, began = counts[0], loop.time()
    await asyncio.sleep(seconds)
    rate = (counts[0] - before) / (loop.time() - began)
    for transport, _ in made:
        transport.close()
    return rate


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(kind: str, seconds: float) -> dict[str, float]:
    """One round of one server."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench.micro.http_load", "--serve", kind, "--port", str(port)]
    found = {}
    with subprocess.Popen(command) as server:
        try:
            wait_for(port)
            for connections in CONNECTIONS:
                before, began = cpu_s(server.pid), time.monotonic()
                rate = uvloop.run(load(port, connections, seconds))
                requests = rate * (time.monotonic() - began)
                used = cpu_s(server.pid) - before
                found[f"req_per_s_{connections}"] = rate
                found[f"cpu_us_per_req_{connections}"] = used / requests * 1e6
        finally:
            server.kill()
    return found


def wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit("the server did not start")


def run_all(seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    found = {kind: [] for kind in SERVERS}  # type: dict[str, list[dict[str, float]]]
    for _ in range(rounds):
        for kind in SERVERS:
            found[kind].append(measure(kind, seconds))
    return {
        kind: {
            name: round(statistics.median(one[name] for one in all_rounds), 1)
            for name in all_rounds[0]
        }
        for kind, all_rounds in found.items()
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        uvloop.run(serve(options.serve, options.port))
        return
    results = run_all(options.seconds, options.rounds)
    document = {"bench": "http_load", **environment(), "servers": results}
    text = json.dumps(document, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
