"""HTTP ingest, one message a request: our listener and pipeline beside bare servers, over sockets.

    python -m bench.micro.http_load [--seconds S] [--rounds N] [--out FILE]

Prints one JSON document: requests per second and the server's CPU microseconds per request, for 1
and for 64 connections, and what the pipeline reaches of each bare server's rate. The server is a
process of its own; servers take turns, round by round, so that a busy machine slows them alike, and
medians are reported.

    parser       httptools on uvloop and nothing else: no application, no limits, a fixed answer
    uvicorn      uvicorn (httptools, uvloop), an application that reads the body and answers
    listener     ours, the same application, with limits, host check and routing
    ingest       ours with POST /ingest: scan and pack; the intake is done at once
    pipeline     `litejoin run`: the answer comes when the row is durable; a join follows every row
    synced       the same, with a sync of every commit (`synchronous: full`)
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
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httptools
import uvloop

from bench.e2e.daemon import daemon, free_port
from bench.report import environment
from litejoin.clock import SystemClock
from litejoin.plan.nodes import Address, HttpSourcePlan, ServerLimits, ServerPlan
from litejoin.runtime.server import Listeners
from litejoin.sources.http import HttpSource

BARE = ("parser", "uvicorn", "listener")
PIPELINES = {"pipeline": "normal", "synced": "full"}
SERVERS = (*BARE, "ingest", *PIPELINES)
CONNECTIONS = (1, 64)
LIMITS = ServerLimits(8 << 20, 10_000, 64, 512, 1 << 20, 1_000, 100, 10_000, 60_000)
JOIN = """  - name: totals
    query: SELECT key AS order_id, json_extract(payload, '$.amount') AS amount FROM orders
    sink: out
"""
BODY = (
    b'{"topic":"orders","key":"o%08d","payload":{"user_id":"u0000001","amount":%d.5,'
    b'"note":"n1"},"timestamp":1763900000001}'
)
REQUEST = (
    b"POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)
KEYS = 100_000
ANSWER = b'{"accepted":1}'


def request(number: int) -> bytes:
    """A new row, or after KEYS of them another version of one."""
    body = BODY % (number % KEYS, number // KEYS)
    return REQUEST % (len(body), body)


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


class ParserOnly(asyncio.Protocol):
    """The least that an HTTP server does: parse, and write an answer when a request is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(ANSWER), ANSWER)
        )


class DoneAtOnce:
    """An intake that keeps nothing."""

    def topic_number(self, name: str) -> int:
        return 1

    def topic_numbers(self, names: Sequence[str]) -> list[int]:
        return [1] * len(names)

    def submit(self, batch: bytes, rows: int) -> "asyncio.Future[None]":
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def room(self) -> None:
        """There always is."""


async def serve(kind: str, port: int) -> None:
    address = Address("127.0.0.1", port)
    if kind == "parser":
        await asyncio.get_running_loop().create_server(ParserOnly, "127.0.0.1", port)
        await asyncio.Event().wait()
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
        self._send()

    def _send(self) -> None:
        self._counts[1] += 1
        self._transport.write(request(self._counts[1]))

    def data_received(self, data: bytes) -> None:
        if data.endswith(ANSWER):
            self._counts[0] += 1
            self._send()


async def load(port: int, connections: int, seconds: float) -> float:
    """Requests per second that were answered."""
    loop = asyncio.get_running_loop()
    counts = [0, 0]
    """Answered, sent."""
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


@contextlib.contextmanager
def running(kind: str) -> Iterator[tuple[int, int]]:
    """Process id and port of a server."""
    if kind in PIPELINES:
        storage = f", synchronous: {PIPELINES[kind]}"
        with (
            tempfile.TemporaryDirectory(prefix="litejoin-bench-") as folder,
            daemon(Path(folder), JOIN, storage=storage) as pipeline,
        ):
            yield pipeline.process.pid, pipeline.port
        return
    port = free_port()
    command = [sys.executable, "-m", "bench.micro.http_load", "--serve", kind, "--port", str(port)]
    with subprocess.Popen(command) as server:
        try:
            wait_for(port)
            yield server.pid, port
        finally:
            server.kill()


def measure(kind: str, seconds: float) -> dict[str, float]:
    """One round of one server."""
    found = {}
    with running(kind) as (pid, port):
        for connections in CONNECTIONS:
            before, began = cpu_s(pid), time.monotonic()
            rate = uvloop.run(load(port, connections, seconds))
            requests = rate * (time.monotonic() - began)
            used = cpu_s(pid) - before
            found[f"req_per_s_{connections}"] = rate
            found[f"cpu_us_per_req_{connections}"] = used / requests * 1e6
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
    rates = {kind: found[f"req_per_s_{CONNECTIONS[-1]}"] for kind, found in results.items()}
    shares = {
        f"{kind}_of_{bare}": round(rates[kind] / rates[bare], 2)
        for kind in PIPELINES
        for bare in BARE
    }
    document = {"bench": "http_load", **environment(), "servers": results, "shares_64": shares}
    text = json.dumps(document, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
