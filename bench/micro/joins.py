"""The engine's cost of one change as topics grow, beside full re-execution; many joins a topic.

    python -m bench.micro.joins [--sizes 10000,100000,1000000] [--joins plain,inner,left,three,...]
        [--row-cache 24]

Store and engine without HTTP: CPU of the engine's thread per changed row, in microseconds.
`ordered`: flushes of 1000 neighbouring keys, `random`: 1000 keys all over the topic, `one`: a flush
of one random key. `user`: random rows of the other side, two orders each. `page`: a bare read of
a random page of those files, what all storage in pages is made of. `growth` divides the largest
size by the smallest. `full_ms` runs the query from scratch once, up to FULL_ROWS.

`plain` joins nothing: what a result and its state cost. In `one_group` all rows are one group.
`fifty` is a topic of 10^5 rows with one join, and with fifty that each filter by another value.

The topics of a size are loaded once, and each join is then added to them: its first results are
made from the stored topics at `start_s`. Ten million orders (`--sizes 10000,10000000`) take about
five minutes for each join, 8 GB of disk and 4 GB of memory. With a larger row cache than the
default every user is written again first, so that it is warm.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import report
from litejoin.records import ROW_HEADER, Row, RowKind, pack_rows
from tests.differential.pipeline import EnginePipeline, engine_pipeline, make_plans

SIZES = "10000,100000,1000000"
FULL_ROWS = 1_000_000
SHARDS = 8
LOAD_ROWS = 50_000
RANDOM_FLUSHES, WARM_FLUSHES = 15, 3
"""Flushes of random keys that count, and those before them."""
PAGE, PAGE_READS = 4096, 100_000
BUDGET_S = 3.0
"""A case that costs more than this stops after the flush that passed it."""

USER = "json_extract(o.payload, '$.user_id') = u.key"
AMOUNT = "json_extract(o.payload, '$.amount')"
NAME = "json_extract(u.payload, '$.name')"
QUERIES = {
    "plain": f"SELECT o.key AS k, {AMOUNT} AS amount FROM orders o",
    "inner": f"SELECT o.key AS k, {AMOUNT} AS amount, {NAME} AS name"
    f" FROM orders o JOIN users u ON {USER}",
    "left": f"SELECT o.key AS k, {AMOUNT} AS amount, {NAME} AS name"
    f" FROM orders o LEFT JOIN users u ON {USER}",
    "three": f"SELECT o.key AS k, {AMOUNT} AS amount, {NAME} AS name,"
    f" p.payload ->> 'title' AS title FROM orders o JOIN users u ON {USER}"
    " JOIN products p ON p.key = o.payload ->> 'product_id'",
    "group": f"SELECT o.payload ->> 'region' AS region, COUNT(*) AS n, SUM({AMOUNT}) AS total"
    " FROM orders o GROUP BY region",
    "one_group": f"SELECT o.payload ->> 'shop' AS shop, COUNT(*) AS n, SUM({AMOUNT}) AS total,"
    f" AVG({AMOUNT}) AS mean, MIN({AMOUNT}) AS least, MAX({AMOUNT}) AS most"
    " FROM orders o GROUP BY shop",
}
PRODUCTS = 1_000
MANY_ROWS = 100_000
MANY = {f"j{i}": f"SELECT key, payload FROM orders WHERE payload ->> 'user_id' = 'u{i:07d}'"
        for i in range(50)}  # fmt: skip

Make = Callable[[int], Row]


class Load:
    """The rows of one size: `orders` orders, half as many users."""

    def __init__(self, p: EnginePipeline, orders: int) -> None:
        self._numbers, self.orders, self.users = p.numbers, orders, orders // 2

    def order(self, i: int, amount: int) -> Row:
        # Of one length, so that rows can be made from the first one.
        payload = (
            b'{"user_id":"u%07d","product_id":"p%03d","region":"r%02d","shop":"s","amount":%d.25}'
        ) % (i * 31 % self.users, i % PRODUCTS, i % 50, 10**8 + amount)
        return Row(self._numbers["orders"], RowKind.UPSERT, 1, b"o%08d" % i, payload)

    def user(self, i: int, name: int) -> Row:
        payload = b'{"name":"Name %09d"}' % abs(name)
        return Row(self._numbers["users"], RowKind.UPSERT, 1, b"u%07d" % i, payload)

    def product(self, i: int) -> Row:
        return Row(self._numbers["products"], RowKind.UPSERT, 1, b"p%03d" % i, b'{"title":"T"}')

    def into(self, p: EnginePipeline) -> None:
        counts: tuple[tuple[int, Make], ...] = (
            (PRODUCTS, self.product),
            (self.users, lambda i: self.user(i, i)),
            (self.orders, lambda i: self.order(i, i)),
        )
        for count, make in counts:
            self.write(p, count, make)

    def write(self, p: EnginePipeline, count: int, make: Make) -> None:
        for at in range(0, count, LOAD_ROWS):
            flush = p.store.flush([packed(make, range(at, min(at + LOAD_ROWS, count)))])
            p.engine.apply(flush.changes, flush.seq)
            p.store.trim_batches(dict.fromkeys(range(SHARDS), flush.seq))

    def users_again(self, p: EnginePipeline) -> None:
        """Bring every user into the row cache."""
        self.write(p, self.users, lambda i: self.user(i, i + 1))


def packed(make: Make, numbers: range) -> bytes:
    """Rows of one length, packed: the header is that of the first."""
    header = pack_rows([make(numbers[0])])[: ROW_HEADER.size]
    rows = (make(i) for i in numbers)
    bodies = [header + row.key + row.payload for row in rows]
    padding = bytes(-len(bodies[0]) % 8)
    return padding.join([*bodies, b""])


@contextmanager
def loaded(orders: int) -> Iterator[tuple[EnginePipeline, Load]]:
    """The topics of a size, without any join."""
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        with engine_pipeline(folder / "data", SHARDS, {}) as p:
            load = Load(p, orders)
            load.into(p)
            yield p, load
    finally:
        shutil.rmtree(folder)


def with_joins(p: EnginePipeline, queries: Mapping[str, str]) -> dict[str, float]:
    """Open the same topics with these joins and no results; CPU of the start and of a page's read.

    Then once more, with all of it checkpointed: those results are one transaction, whose log would
    be searched at every look-up until a checkpoint has ended.
    """
    p.close()
    for file in p.root.glob("state.db*"):
        file.unlink()
    p.plan(p.root, SHARDS, queries)
    started = time.thread_time()
    p.open()
    spent_s = round(time.thread_time() - started, 2)
    p.close()
    read_us = page_us(p.root)
    p.open()
    return {"start_s": spent_s, "page_us": read_us}


def page_us(folder: Path) -> float:
    """CPU of reading a random page of the data files from the system's cache; no SQLite is open.

    Python's own share, some 0.3 us, is the same at every size.
    """
    page = bytearray(PAGE)
    rng, fds = random.Random(1), [os.open(file, os.O_RDONLY) for file in folder.glob("*.db")]
    try:
        sizes = [os.fstat(fd).st_size // PAGE for fd in fds]
        places = rng.choices(list(zip(fds, sizes, strict=True)), sizes, k=PAGE_READS)
        reads = [(fd, rng.randrange(pages) * PAGE) for fd, pages in places]
        started = time.thread_time()
        for fd, at in reads:
            os.preadv(fd, [page], at)
        return round((time.thread_time() - started) / PAGE_READS * 1e6, 2)
    finally:
        for fd in fds:
            os.close(fd)


def cost_us(p: EnginePipeline, row: Make, flushes: int, per_flush: int) -> float:
    """Thread CPU of the engine per changed row."""
    spent, done = 0.0, 0
    for flush in range(flushes):
        rows = [row(flush * per_flush + n) for n in range(per_flush)]
        written = p.store.flush([pack_rows(rows)])
        started = time.thread_time()
        p.engine.apply(written.changes, written.seq)
        spent += time.thread_time() - started
        done += per_flush
        if spent > BUDGET_S:
            break
    return round(spent / done * 1e6, 2)


def measure(name: str, p: EnginePipeline, load: Load) -> dict[str, float]:
    orders = load.orders
    step = 104_729  # a prime: keys all over the topic
    at = iter(range(10**9))

    def at_random(_: int) -> Row:
        n = next(at)
        return load.order(n * step % orders, n)

    found = with_joins(p, {name: QUERIES[name]})
    if p.row_cache_bytes > EnginePipeline.row_cache_bytes and "users" in QUERIES[name]:
        load.users_again(p)
    found["one_us"] = cost_us(p, at_random, 300, 1)
    found["ordered_us"] = cost_us(p, lambda n: load.order(n % orders, n + 1), 10, 1000)
    cost_us(p, at_random, WARM_FLUSHES, 1000)
    found["random_us"] = cost_us(p, at_random, RANDOM_FLUSHES, 1000)
    if "users" in QUERIES[name]:
        found["user_us"] = cost_us(p, lambda n: load.user(n * step % load.users, n), 5, 1000)
    if orders <= FULL_ROWS:
        started = time.thread_time()
        p.full_query(QUERIES[name])
        found["full_ms"] = round((time.thread_time() - started) * 1e3, 1)
    return found


def fifty() -> dict[str, float]:
    """One changed row at a time, of users that the joins filter by."""
    found: dict[str, float] = {}
    with loaded(MANY_ROWS) as (p, load):
        for label, queries in (("one", {"j0": MANY["j0"]}), ("fifty", MANY)):
            with_joins(p, queries)
            found[f"{label}_us"] = cost_us(p, lambda n: load.order(n * 7919 % 99, n), 300, 1)
    found["ratio"] = round(found["fifty_us"] / found["one_us"], 2)
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--joins", default=",".join(QUERIES))
    parser.add_argument("--row-cache", type=int, default=24, help="MiB, as in storage.row_cache")
    options = parser.parse_args(arguments)
    sizes, figures = [int(size) for size in options.sizes.split(",")], dict[str, object]()
    strategies = {join.name: join.strategy for join in make_plans(QUERIES, SHARDS)[1]}
    names = options.joins.split(",")
    measured: dict[str, dict[int, dict[str, float]]] = {name: {} for name in names}
    for size in sizes:
        with loaded(size) as (p, load):
            p.row_cache_bytes = options.row_cache << 20
            for name in names:
                measured[name][size] = found = measure(name, p, load)
                print(f"{size} orders, {name}: {found}", file=sys.stderr, flush=True)
    for name, by_size in measured.items():
        small, large = by_size[sizes[0]], by_size[sizes[-1]]
        cases = [case for case in large if case.endswith("_us")]
        growth = {case: round(large[case] / small[case], 2) for case in cases}
        rows = {f"orders_{size}": each for size, each in by_size.items()}
        figures[name] = {"strategy": strategies[name], **rows, "growth": growth}
    figures["fifty"] = fifty()
    report.write("joins", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
