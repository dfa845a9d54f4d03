"""What delivery costs: the webhook sink beside its bare client library.

    python -m bench.e2e.delivery [RESULTS]

The webhook receiver is a process of its own that answers at once. The bare client is urllib3 with
as many threads as the sink has requests in flight; it sends the same bodies, which it need not
make, and remembers nothing. The sink runs as in `litejoin run`: on uvloop, with its switch
interval, reading the results log and committing cursors. They take turns.
"""

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import urllib3
import uvloop

from bench import report
from bench.e2e.daemon import free_port
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.records import Result
from litejoin.runtime.app import THREAD_SWITCH_S
from litejoin.sinks.http.sink import HttpSink
from litejoin.store.log import ResultLog
from tests.unit.delivery.harness import EPOCH, join_plan, make_plan, running
from tests.unit.store.state_writer import StateWriter

IN_FLIGHT = 32
ROUNDS = 5

RECEIVER = """
import asyncio, sys, uvloop
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"
class Receiver(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.rest = transport, b""
    def data_received(self, data):
        self.rest += data
        while (head := self.rest.find(b"\\r\\n\\r\\n")) >= 0:
            lower = self.rest[:head].lower()
            at = lower.index(b"content-length:") + 15
            end = head + 4 + int(lower[at:].split(b"\\r\\n", 1)[0])
            if len(self.rest) < end: return
            self.rest = self.rest[end:]
            self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""


def bare_rate(port: int, results: list[Result]) -> float:
    """Requests a second of urllib3 alone."""
    queue: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
    for result in results:
        queue.put(result.named_body())

    def send() -> None:
        pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1)
        while True:
            try:
                id_, body = queue.get_nowait()
            except Empty:
                return
            headers = {"Content-Type": "application/json", "webhook-id": id_}
            assert pool.urlopen("POST", "/", body=body, headers=headers).status == 200

    threads = [threading.Thread(target=send) for _ in range(IN_FLIGHT)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(results) / (time.perf_counter() - started)


def sink_rate(port: int, folder: Path, writer: StateWriter, count: int) -> float:
    """Results a second through delivery and the webhook sink, cursors and all."""
    plan = HttpSinkPlan(
        "hook", "at_least_once", f"http://127.0.0.1:{port}/", "POST", 30_000, {}, IN_FLIGHT
    )

    async def story() -> float:
        pipeline = make_plan(folder, [join_plan("orders", "hook")], [plan])
        started = time.perf_counter()
        async with running(pipeline, writer, HttpSink(plan)) as run:
            while run.delivery.pending():  # noqa: ASYNC110 - no signal
                await asyncio.sleep(0.005)
            rate = count / (time.perf_counter() - started)
            assert run.delivery.health()["hook"]["delivered"] == count
            return rate

    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(THREAD_SWITCH_S)
    try:
        rate = uvloop.run(story())
    finally:
        sys.setswitchinterval(usual_s)
    for file in folder.glob("dlq.db*"):
        file.unlink()
    return rate


def webhooks(folder: Path, count: int) -> dict[str, Any]:
    port = free_port()
    receiver = subprocess.Popen([sys.executable, "-c", RECEIVER, str(port)])
    writer = StateWriter(folder / "state.db", "orders")
    try:
        writer.put_many(*[("orders", n, {"order_id": n, "customer": "Alice", "amount": 45.5})
                          for n in range(count)])  # fmt: skip
        log = ResultLog(writer.path, "shop", EPOCH)
        results = log.read(0, count)[0]
        log.close()
        wait_for(port)
        rates = [(bare_rate(port, results), sink_rate(port, folder, writer, count))
                 for _ in range(ROUNDS)]  # fmt: skip
    finally:
        writer.close()
        receiver.terminate()
        receiver.wait()
    bare, sink = (sorted(column)[ROUNDS // 2] for column in zip(*rates, strict=True))
    return {
        "bare_per_s": round(bare),
        "sink_per_s": round(sink),
        "ratio": round(sink / bare, 2),
        "ratio_of_each_round": [round(ours / theirs, 2) for theirs, ours in rates],
    }


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 6_000
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        report.write("delivery", {"webhooks": webhooks(folder, count)})
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
