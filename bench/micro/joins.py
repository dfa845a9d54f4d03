"""The engine's cost of one change at 10^4, 10^5 and 10^6 orders, beside full re-execution.

    python -m bench.micro.joins

Store and engine without HTTP. `one` is a flush with a single changed row, `batch` a flush of 1000,
in microseconds of the engine's thread per changed row; `full_ms` runs the query from scratch once.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import report
from litejoin.records import Row, RowKind, pack_rows
from tests.differential.pipeline import EnginePipeline, engine_pipeline

SIZES = (10_000, 100_000, 1_000_000)
LINK = "json_extract(o.payload, '$.user_id') = u.key"
QUERIES = {
    "inner": "SELECT o.key AS order_id, json_extract(o.payload, '$.amount') AS amount,"
    f" json_extract(u.payload, '$.name') AS name FROM orders o JOIN users u ON {LINK}"
}
SHARDS = 8
LOAD_ROWS = 20_000


def order(p: EnginePipeline, i: int, users: int, amount: int) -> Row:
    payload = b'{"user_id":"u%07d","amount":%d.25}' % (i * 31 % users, amount)
    return Row(p.numbers["orders"], RowKind.UPSERT, 1, b"o%08d" % i, payload)


def user(p: EnginePipeline, i: int, name: int) -> Row:
    return Row(p.numbers["users"], RowKind.UPSERT, 1, b"u%07d" % i, b'{"name":"Name %d"}' % name)


def cost_us(p: EnginePipeline, row: Callable[[int], Row], flushes: int, per_flush: int) -> float:
    """Thread CPU of the engine per changed row."""
    spent = 0.0
    for flush in range(flushes):
        rows = [row(flush * per_flush + n) for n in range(per_flush)]
        written = p.store.flush([pack_rows(rows)])
        started = time.thread_time()
        p.engine.apply(written.changes, written.seq)
        spent += time.thread_time() - started
    return round(spent / (flushes * per_flush) * 1e6, 2)


def measure(orders: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    users = orders // 2
    try:
        with engine_pipeline(folder / "data", SHARDS, QUERIES) as p:
            for first, count, make in (
                (0, users, lambda i: user(p, i, i)),
                (0, orders, lambda i: order(p, i, users, i)),
            ):
                for at in range(first, count, LOAD_ROWS):
                    rows = [make(i) for i in range(at, min(at + LOAD_ROWS, count))]
                    written = p.store.flush([pack_rows(rows)])
                    p.engine.apply(written.changes, written.seq)

            def one_order(n: int) -> Row:
                return order(p, n * 104_729 % orders, users, -n)

            def one_user(n: int) -> Row:
                return user(p, n * 104_729 % users, -n)

            found = {
                "order_one_us": cost_us(p, one_order, 300, 1),
                "user_one_us": cost_us(p, one_user, 300, 1),
                "order_batch_us": cost_us(p, lambda n: one_order(n + 10**6), 5, 1000),
                "user_batch_us": cost_us(p, lambda n: one_user(n + 10**6), 5, 1000),
            }
            started = time.thread_time()
            p.full_query(QUERIES["inner"])
            found["full_ms"] = round((time.thread_time() - started) * 1e3, 1)
            return found
    finally:
        shutil.rmtree(folder)


def main() -> None:
    figures: dict[str, object] = {f"orders_{size}": measure(size) for size in SIZES}
    small, large = figures[f"orders_{SIZES[0]}"], figures[f"orders_{SIZES[-1]}"]
    assert isinstance(small, dict)
    assert isinstance(large, dict)
    figures["growth"] = {name: round(large[name] / small[name], 2) for name in small}
    report.write("joins", figures)


if __name__ == "__main__":
    main()
