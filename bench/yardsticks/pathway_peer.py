"""The same join in Pathway, memory only: two upsert inputs, an inner join, a subscriber.

    pathway_peer.py WORKLOAD.jsonl [COMMIT_EVERY]

Runs in an environment of its own that has pathway and orjson. The inputs take turns as the workload
has them (users, orders, user updates), so the result is the same. Prints one JSON object.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pathway as pw
from pathway.internals.api import SessionType
from peak import peak_mb

LINES = Path(sys.argv[1]).read_bytes().splitlines()
COMMIT_EVERY = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
ORDERS = [i for i, line in enumerate(LINES) if line.startswith(b'{"topic":"orders"')]
FIRST, LAST = ORDERS[0], ORDERS[-1] + 1
loaded, ordered = threading.Event(), threading.Event()
results = 0
started = 0.0


class Order(pw.Schema):
    key: str = pw.column_definition(primary_key=True)
    user_id: str
    amount: float


class User(pw.Schema):
    key: str = pw.column_definition(primary_key=True)
    name: str


class Upserts(pw.io.python.ConnectorSubject):
    """Rows by key; a later row replaces an earlier one."""

    @property
    def _session_type(self) -> SessionType:
        return SessionType.UPSERT

    def send(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines, 1):
            message = orjson.loads(line)
            self.next(key=message["key"], **self.columns(message["payload"]))
            if number % COMMIT_EVERY == 0:
                self.commit()
        self.commit()

    def columns(self, payload: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class Users(Upserts):
    def run(self) -> None:
        global started
        started = time.perf_counter()
        self.send(LINES[:FIRST])
        loaded.set()
        ordered.wait()
        self.send(LINES[LAST:])

    def columns(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"name": payload["name"]}


class Orders(Upserts):
    def run(self) -> None:
        loaded.wait()
        self.send(LINES[FIRST:LAST])
        ordered.set()

    def columns(self, payload: dict[str, Any]) -> dict[str, Any]:
        return {"user_id": payload["user_id"], "amount": payload["amount"]}


def note(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
    global results
    if is_addition:
        results += 1
        orjson.dumps(row)


orders = pw.io.python.read(Orders(), schema=Order, autocommit_duration_ms=20)
users = pw.io.python.read(Users(), schema=User, autocommit_duration_ms=20)
joined = orders.join(users, orders.user_id == users.key).select(
    order_id=orders.key, amount=orders.amount, name=users.name
)
pw.io.subscribe(joined, note)
cpu = time.process_time()
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
seconds = time.perf_counter() - started
print(json.dumps({
    "messages": len(LINES), "results": results, "seconds": seconds, "rate": len(LINES) / seconds,
    "cpu_us": (time.process_time() - cpu) / len(LINES) * 1e6,
    "rss_mb": peak_mb(),
}))  # fmt: skip
