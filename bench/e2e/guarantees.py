"""What at_least_once costs: the orders/users pipeline with a file sink, beside best_effort.

    python -m bench.e2e.guarantees [ROUNDS] [--share N]

Rounds are paired: the three kinds take turns. Arrays of 100, one in flight on each connection; with
4 connections a flush waits for its clients, with 16 there is always a next one. `sync_ms` is what
the disk takes for a sync of a few pages, in the same folder and run: most of the cost is its.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import report
from bench.e2e.daemon import daemon
from bench.e2e.pipeline import post_all, requests
from bench.yardsticks.workload import write_workload

JOINS = """  - name: order-user-join
    query: |
      SELECT o.key AS order_id, json_extract(o.payload, '$.amount') AS amount,
             json_extract(u.payload, '$.name') AS name
      FROM orders o JOIN users u ON json_extract(o.payload, '$.user_id') = u.key
    sinks: [out, lines]
"""
CONNECTIONS = (4, 16)
KINDS = {
    "best_effort": ("best_effort", ""),
    "at_least_once": ("at_least_once", ""),
    # The same without a sync of every commit: what delivery alone costs.
    "at_least_once_synchronous_normal": ("at_least_once", ", synchronous: normal"),
}
SYNCED_BYTES = 16 * 1024


def pipeline_rate(lines: list[bytes], connections: int, guarantee: str, storage: str) -> float:
    """Messages a second until all are in, joined and written to a file sink."""
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    more = f"delivery: {{guarantee: {guarantee}}}\n"
    sinks = f", {{type: file, name: lines, config: {{path: {folder}/out.jsonl}}}}"
    prepared = requests(lines)
    try:
        with daemon(folder, JOINS, more=more, sinks=sinks, storage=storage) as running:
            started = time.perf_counter()
            post_all(running.port, prepared, connections)
            running.wait_until_evaluated()
            while running.health()["sinks"]["lines"]["lag_results"]:
                time.sleep(0.02)
            return len(lines) / (time.perf_counter() - started)
    finally:
        shutil.rmtree(folder)


def sync_ms() -> float:
    """Median time of a sync, as a commit does it: a few pages at the end of a file."""
    took = []
    with tempfile.TemporaryFile(prefix="litejoin-bench-") as file:
        for _ in range(100):
            file.write(bytes(SYNCED_BYTES))
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


def measure(lines: list[bytes], connections: int, rounds: int) -> dict[str, float]:
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    syncs = []
    for _ in range(rounds):
        for kind, (guarantee, storage) in KINDS.items():
            rates[kind].append(pipeline_rate(lines, connections, guarantee, storage))
        syncs.append(sync_ms())
    found = {f"{kind}_per_s": round(statistics.median(each)) for kind, each in rates.items()}
    costs = {
        name: statistics.median(
            1 - b / a for a, b in zip(rates["best_effort"], rates[kind], strict=True)
        )
        for name, kind in (
            ("cost", "at_least_once"),
            ("cost_of_delivery", "at_least_once_synchronous_normal"),
        )
    }
    costs["sync_ms"] = statistics.median(syncs)
    return found | {name: round(value, 2) for name, value in costs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="What at_least_once costs")
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--share", type=int, default=3, help="1/N of the pipeline's messages")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        workload = folder / "workload"
        write_workload(workload, share=options.share)
        lines = workload.read_bytes().splitlines()
    finally:
        shutil.rmtree(folder)
    figures: dict[str, Any] = {"messages": len(lines), "rounds": options.rounds}
    for connections in CONNECTIONS:
        figures[f"{connections}_connections"] = measure(lines, connections, options.rounds)
    report.write("guarantees", figures)


if __name__ == "__main__":
    main()
