"""The whole pipeline beside its yardsticks, in one run: HTTP arrays of 100 in, results log out.

    python -m bench.e2e.pipeline [ROUNDS] [--share N] [--pathway PYTHON] [--bytewax PYTHON]

Yardsticks: a C program (SQLite upserts and a hash join in memory, batches of 1000), hand-written
Python on the standard library's sqlite3 with delta SQL, and, memory only, Pathway and Bytewax:
PYTHON is the interpreter of an environment that has the package and orjson. Medians over the
rounds, run in turn; N takes 1/N of the messages. After each of LiteJoin's runs its results are
compared with a join of the messages in Python.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import report
from bench.e2e.daemon import daemon
from bench.yardsticks.workload import write_workload

HERE = Path(__file__).resolve().parent
YARDSTICKS = HERE.parent / "yardsticks"
ARRAY = 100
Expected = dict[str, tuple[frozenset[float], frozenset[str]]]
CONNECTIONS = 4

JOIN = """  - name: order-user-join
    query: |
      SELECT o.key AS order_id, json_extract(o.payload, '$.amount') AS amount,
             json_extract(u.payload, '$.name') AS name
      FROM orders o JOIN users u ON json_extract(o.payload, '$.user_id') = u.key
    sink: out
"""


def requests(lines: list[bytes]) -> list[bytes]:
    """POST requests of ARRAY messages each, ready to be sent."""
    made = []
    for at in range(0, len(lines), ARRAY):
        body = b"[" + b",".join(lines[at : at + ARRAY]) + b"]"
        head = b"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        made.append(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return made


def post_all(port: int, prepared: Iterable[bytes], connections: int = CONNECTIONS) -> None:
    """Send every request over keep-alive connections, one in flight on each."""
    queue = iter(prepared)
    lock = threading.Lock()
    errors: list[str] = []

    def send() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                with lock:
                    request = next(queue, None)
                if request is None:
                    return
                while True:
                    connection.sendall(request)
                    answer = connection.recv(65536)
                    if answer.startswith(b"HTTP/1.1 200"):
                        break
                    if not answer.startswith(b"HTTP/1.1 503"):
                        errors.append(answer.decode(errors="replace")[:300])
                        return
                    time.sleep(0.05)

    threads = [threading.Thread(target=send) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError(errors[0])


def expected_of(lines: list[bytes]) -> Expected:
    """Order -> the amounts and the names of which its result may hold one.

    Usually one of each. Arrays travel on several connections at once, so of the messages of one key
    any may be taken in last.
    """
    versions: dict[str, dict[str, list[dict[str, Any]]]] = {"orders": {}, "users": {}}
    for line in lines:
        message = json.loads(line)
        versions[message["topic"]].setdefault(message["key"], []).append(message["payload"])
    names = {
        key: frozenset(payload["name"] for payload in each)
        for key, each in versions["users"].items()
    }
    return {
        key: (frozenset(order["amount"] for order in each), names[each[0]["user_id"]])
        for key, each in versions["orders"].items()
    }


def check_results(port: int, expected: Expected) -> None:
    """Raises RuntimeError when a result is missing, too much, or not one of its messages."""
    url = f"http://127.0.0.1:{port}/snapshot?join=*&limit=1000000"
    with urllib.request.urlopen(url, timeout=120) as answer:
        rows = [result["rows"][0] for result in json.load(answer)]
    if len(rows) != len(expected) or {row["order_id"] for row in rows} != expected.keys():
        raise RuntimeError(f"{len(rows)} results, not the {len(expected)} that were expected")
    for row in rows:
        amounts, names = expected[row["order_id"]]
        if row["amount"] not in amounts or row["name"] not in names:
            raise RuntimeError(f"a result that no message makes: {row}")


def run_pipeline(
    folder: Path, prepared: list[bytes], messages: int, expected: Expected
) -> dict[str, float]:
    folder.mkdir()
    with daemon(folder, JOIN) as running:
        cpu, started = running.cpu_s(), time.perf_counter()
        post_all(running.port, prepared)
        acked = time.perf_counter() - started
        head = running.wait_until_evaluated()
        seconds = time.perf_counter() - started
        figures = {
            "seconds": seconds,
            "rate": messages / seconds,
            "acked_rate": messages / acked,
            "cpu_us": (running.cpu_s() - cpu) / messages * 1e6,
            "rss_mb": running.rss_mb("VmHWM"),
            "results": head,
            "start_s": running.started_s,
        }
        check_results(running.port, expected)
        return figures


def run_c(folder: Path, program: Path, workload: Path, messages: int) -> dict[str, float]:
    folder.mkdir()
    command = [program, workload, folder / "c.db", "1", "1000"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(output.splitlines()[-1])
    return {"seconds": found["secs"], "rate": found["rate"], "rss_mb": found["rss_self"]}


def run_beside(folder: Path, python: str, program: str, workload: Path) -> dict[str, float]:
    """A yardstick in Python, in the environment of this interpreter."""
    folder.mkdir()
    command = [python, YARDSTICKS / program, workload]
    if program == "hand.py":
        command.append(folder / "hand.db")
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(r[key] for r in rounds), 4) for key in rounds[0]}


def beside(options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Interpreter and program of each yardstick in Python."""
    programs = {"hand": (sys.executable, "hand.py")}
    for name in ("pathway", "bytewax"):
        if python := getattr(options, name):
            programs[name] = (python, f"{name}_peer.py")
    return programs


def measure(
    folder: Path, rounds: int, share: int, programs: dict[str, tuple[str, str]]
) -> dict[str, dict[str, float]]:
    workload = folder / "workload.jsonl"
    write_workload(workload, share=share)
    program, source = folder / "join", YARDSTICKS / "join.c"
    subprocess.run(["gcc", "-O2", "-o", program, source, "-lsqlite3", "-lpthread"], check=True)
    lines = workload.read_bytes().splitlines()
    prepared, expected = requests(lines), expected_of(lines)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("litejoin", "c", *programs)}
    for number in range(rounds):
        ours = run_pipeline(folder / f"l{number}", prepared, len(lines), expected)
        found["litejoin"].append(ours)
        found["c"].append(run_c(folder / f"c{number}", program, workload, len(lines)))
        for name, (python, script) in programs.items():
            found[name].append(run_beside(folder / f"{name}{number}", python, script, workload))
    return {name: median(each) for name, each in found.items()}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="The whole pipeline beside its yardsticks")
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--share", type=int, default=1)
    parser.add_argument("--pathway", metavar="PYTHON")
    parser.add_argument("--bytewax", metavar="PYTHON")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        found = measure(folder, options.rounds, options.share, beside(options))
        figures: dict[str, Any] = {**found}
        ours = figures["litejoin"]["rate"]
        ratios = {
            f"rate_vs_{name}": round(ours / each["rate"], 3)
            for name, each in figures.items()
            if name != "litejoin"
        }
        report.write("pipeline", {"rounds": options.rounds, **figures, **ratios})
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
