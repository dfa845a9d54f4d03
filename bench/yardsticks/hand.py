"""The yardstick in Python: the same join written by hand on the standard library's sqlite3.

    hand.py WORKLOAD.jsonl DATABASE [BATCH]

Batches of upserts in WAL mode, then delta SQL for the batch's keys; JSON in, JSON out. No
checksums, no results log, no recovery. Prints one JSON object. Runs in a process of its own: the
standard library's SQLite must never meet ours.
"""

import json
import sqlite3
import sys
import time
from pathlib import Path

import orjson
from peak import peak_mb

PROBE = (
    "SELECT o.key, json_extract(o.payload,'$.amount'), json_extract(u.payload,'$.name')"
    " FROM json_each(?) k"
)
DELTA = {
    "orders": f"{PROBE} CROSS JOIN orders o ON o.key = k.value"
    " CROSS JOIN users u ON u.key = json_extract(o.payload,'$.user_id')",
    # The unary plus drops the TEXT affinity that would keep SQLite from using the index.
    "users": f"{PROBE} CROSS JOIN users u ON u.key = k.value"
    " CROSS JOIN orders o ON json_extract(o.payload,'$.user_id') = +u.key",
}


def main() -> None:
    workload, database = Path(sys.argv[1]), Path(sys.argv[2])
    batch = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    lines = workload.read_bytes().splitlines()
    connection = sqlite3.connect(database, isolation_level=None, cached_statements=64)
    run = connection.execute
    for pragma in ("journal_mode=WAL", "synchronous=1", "cache_size=-65536"):
        run(f"PRAGMA {pragma}")
    for topic in DELTA:
        columns = "key TEXT PRIMARY KEY, payload TEXT, timestamp INTEGER"
        run(f"CREATE TABLE {topic}({columns}) WITHOUT ROWID")
    run("CREATE INDEX by_user ON orders(json_extract(payload,'$.user_id'))")
    results, started, cpu = 0, time.perf_counter(), time.process_time()
    for at in range(0, len(lines), batch):
        results += evaluate(connection, lines[at : at + batch])
    seconds = time.perf_counter() - started
    print(json.dumps({
        "messages": len(lines), "results": results, "seconds": seconds,
        "rate": len(lines) / seconds,
        "cpu_us": (time.process_time() - cpu) / len(lines) * 1e6,
        "rss_mb": peak_mb(),
    }))  # fmt: skip


def evaluate(connection: sqlite3.Connection, lines: list[bytes]) -> int:
    """Write a batch and join what it changed; returns the results made."""
    run = connection.execute
    rows: dict[str, list[tuple[str, str, int]]] = {topic: [] for topic in DELTA}
    for line in lines:
        m = orjson.loads(line)
        rows[m["topic"]].append((m["key"], orjson.dumps(m["payload"]).decode(), m["timestamp"]))
    run("BEGIN IMMEDIATE")
    for topic, upserts in rows.items():
        sql = (
            f"INSERT INTO {topic} VALUES(?,?,?) ON CONFLICT(key) DO UPDATE"
            " SET payload=excluded.payload, timestamp=excluded.timestamp"
        )
        connection.executemany(sql, upserts)
    run("COMMIT")
    results = 0
    for topic, upserts in rows.items():
        keys = orjson.dumps(list(dict.fromkeys(row[0] for row in upserts))).decode()
        for order, amount, name in run(DELTA[topic], (keys,)).fetchall():
            orjson.dumps({"order_id": order, "amount": amount, "name": name})
            results += 1
    return results


if __name__ == "__main__":
    main()
