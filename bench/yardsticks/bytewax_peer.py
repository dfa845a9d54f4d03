"""The same join in Bytewax, memory only: one stateful step by user that holds a user's orders.

    bytewax_peer.py WORKLOAD.jsonl [BATCH]

Runs in an environment of its own that has bytewax and orjson. Its own join operator keeps one order
a user, which is not what SQL means. Prints one JSON object.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main
from peak import peak_mb

LINES = Path(sys.argv[1]).read_bytes().splitlines()
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
results = 0

State = tuple[str | None, dict[str, float]]


class Count(StatelessSinkPartition[bytes]):
    def write_batch(self, items: list[bytes]) -> None:
        global results
        results += len(items)


class Counting(DynamicSink[bytes]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> Count:
        return Count()


def by_user(line: bytes) -> tuple[str, Any]:
    message = orjson.loads(line)
    payload = message["payload"]
    if message["topic"] == "orders":
        return payload["user_id"], (message["key"], payload["amount"])
    return message["key"], payload["name"]


def join(state: State | None, change: Any) -> tuple[State, list[tuple[str, float, str]]]:
    name, orders = state or (None, {})
    if isinstance(change, tuple):
        order, amount = change
        orders[order] = amount
        return (name, orders), [] if name is None else [(order, amount, name)]
    return (change, orders), [(order, amount, change) for order, amount in orders.items()]


def written(item: tuple[str, tuple[str, float, str]]) -> bytes:
    order, amount, name = item[1]
    return orjson.dumps({"order_id": order, "amount": amount, "name": name})


flow = Dataflow("join")
lines = op.input("lines", flow, TestingSource(LINES, batch_size=BATCH))
joined = op.stateful_flat_map("join", op.map("by-user", lines, by_user), join)
op.output("count", op.map("written", joined, written), Counting())
started, cpu = time.perf_counter(), time.process_time()
run_main(flow)
seconds = time.perf_counter() - started
print(json.dumps({
    "messages": len(LINES), "results": results, "seconds": seconds, "rate": len(LINES) / seconds,
    "cpu_us": (time.process_time() - cpu) / len(LINES) * 1e6,
    "rss_mb": peak_mb(),
}))  # fmt: skip
