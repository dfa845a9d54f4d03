"""The demo: an upstream API, `litejoin run` on demo.yaml, pushes of users, and what comes out.

    python examples/demo/run_demo.py [--seconds 120] [--seed 7] [--every 0.6]

Starts both as child processes on loopback, in a temporary folder that it removes. Ends by itself,
or on Ctrl-C, with a summary and exit code 0; 1 when a part failed, with what that part printed.
"""

import argparse
import contextlib
import http.client
import json
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from children import Child, StartError, start_pipeline, start_upstream
from screen import Screen, footer, paint

FIRST = ("Alice", "Bob", "Chloe", "Dario", "Emma", "Femi", "Grace", "Hiro")
LAST = ("Mills", "Tanaka", "Ortiz", "Novak", "Okafor", "Lind", "Silva", "Weber")
PUSH_EVERY_S = 3.0
FOOTER_EVERY_S = 30.0


class Pusher:
    """Pushes users to the pipeline and remembers when, for the latency of the summary."""

    def __init__(self, url: str, seed: int) -> None:
        # One kept-alive connection: the latency shown is not that of opening it.
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        self._random = random.Random(seed)
        self.pushed_at: dict[str, float] = {}
        """Customer name -> `perf_counter` of the POST, until the first result that shows it."""
        self._names: dict[int, str] = {}

    def push_all(self) -> None:
        self._post([message(number, self._new_name(number)) for number in range(1, 9)])

    def rename_one(self) -> None:
        number = self._random.randint(1, 8)
        name = self._new_name(number)
        self.pushed_at[name] = time.perf_counter()
        self._post([message(number, name)])

    def _new_name(self, number: int) -> str:
        """Another surname than before: a push that changes nothing makes no result."""
        choices = [f"{FIRST[number - 1]} {last}" for last in LAST]
        old = self._names.get(number)
        self._names[number] = self._random.choice([name for name in choices if name != old])
        return self._names[number]

    def _post(self, rows: list[dict[str, object]]) -> None:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/ingest", json.dumps(rows), headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise StartError(f"/ingest answered {answer.status}: {text[:500]!r}")


def message(number: int, name: str) -> dict[str, object]:
    return {"topic": "users", "key": f"u{number}", "payload": {"name": name}}


def subscribe(url: str) -> http.client.HTTPResponse:
    """The SSE stream of the join: what changes from now on."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("GET", "/subscribe?join=order-user", headers={"Accept": "text/event-stream"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise StartError(f"/subscribe answered {answer.status}: {answer.read(500)!r}")
    return answer


def results(stream: http.client.HTTPResponse) -> Iterator[dict[str, object]]:
    """The result objects of a stream, until the pipeline ends it."""
    name = ""
    while line := stream.readline():
        field, _, value = line.decode().rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data" and name == "join_result":
            yield json.loads(value)


def follow(stream: http.client.HTTPResponse, screen: Screen, pusher: Pusher) -> None:
    """Show every result; the thread ends with the stream."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        for result in results(stream):
            rows = result["rows"]
            if isinstance(rows, list) and rows:
                started = pusher.pushed_at.pop(rows[0].get("customer"), None)
                if started is not None:
                    screen.latencies_ms.append((time.perf_counter() - started) * 1000)
            screen.show(result)


def watch(seconds: int, url: str, upstream: str, pusher: Pusher, pipeline: Child) -> None:
    """Push a change now and then until the time is over; Ctrl-C ends it early."""
    begin = time.monotonic()
    next_push, next_footer = begin + PUSH_EVERY_S, begin + 2.0
    while (now := time.monotonic()) < begin + seconds:
        if pipeline.ended():
            raise StartError(f"litejoin ended by itself; it printed:\n{pipeline.output()[-4000:]}")
        if now >= next_push:
            pusher.rename_one()
            next_push = now + PUSH_EVERY_S
        if now >= next_footer:
            print(footer(url, upstream, seconds), flush=True)
            next_footer = now + FOOTER_EVERY_S
        time.sleep(0.05)


def run(options: argparse.Namespace, folder: Path) -> int:
    """Start, watch, stop; the exit code."""
    screen = Screen()
    upstream = pipeline = None
    try:
        upstream, upstream_url = start_upstream(folder, options.seed, options.every)
        pipeline, url = start_pipeline(folder, upstream_url)
        print(
            f"polling {upstream_url}/orders every second, joining with users pushed to {url}/ingest"
        )
        pusher = Pusher(url, options.seed)
        arguments = (subscribe(url), screen, pusher)
        threading.Thread(target=follow, args=arguments, daemon=True).start()
        pusher.push_all()
        with contextlib.suppress(KeyboardInterrupt):
            watch(options.seconds, url, upstream_url, pusher, pipeline)
        with urllib.request.urlopen(f"{upstream_url}/stats", timeout=5) as answer:
            stats = json.load(answer)
    except (StartError, OSError, http.client.HTTPException) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        code = pipeline.stop() if pipeline else 0
        if upstream:
            upstream.stop()
    changes = stats["created"] + stats["updated"] + stats["deleted"]
    print(paint("\nstopped cleanly" if code == 0 else f"\nlitejoin ended with {code}", "1"))
    print(screen.summary(stats["polls"], changes))
    return 0 if code == 0 else 1


def main() -> int:
    """Parse the arguments; Ctrl-C and SIGTERM end the demo the same way."""
    parser = argparse.ArgumentParser(description="live joined results, on this machine only")
    parser.add_argument("--seconds", type=int, default=120, help="how long it runs")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another day in the shop")
    parser.add_argument("--every", type=float, default=0.6, help="seconds between two changes")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        # SIGINT too: a shell starts background jobs with it ignored.
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="litejoin-demo-") as folder:
        try:
            return run(options, Path(folder))
        except KeyboardInterrupt:
            print("stopped while starting or stopping", file=sys.stderr)
            return 0


if __name__ == "__main__":
    sys.exit(main())
