"""One measurement of bench.micro.writer, in a process of its own: writes rows, prints one JSON
line.

    python -m bench.micro.writer_child '{"kind": "native", "keys": "sequential", ...}'

`kind`: native (BatchWriter), c (the same loop in C on the same SQLite), stdlib (executemany of the
standard library's sqlite3). The result is checked before it is reported: a writer that loses rows
is not fast.
"""

import ctypes
import json
import random
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PAYLOAD_BYTES = 130


def make_keys(keys: str, count: int) -> list[bytes]:
    if keys == "sequential":
        return [b"order_%09d" % n for n in range(count)]
    choose = random.Random(11)
    return [b"%016x" % choose.getrandbits(64) for _ in range(count)]


def payload(n: int, salt: int) -> bytes:
    text = b'{"id":%d,"user_id":"user_%d","amount":%d.%02d,"note":"' % (n, n % 9973, salt, n % 100)
    return text + b"x" * (PAYLOAD_BYTES - len(text) - 2) + b'"}'


def packed(keys: list[bytes], salt: int, batch: int) -> list[bytes]:
    """Row batches by the layout of litejoin.records (packed here: the library's way is slow)."""
    head = struct.Struct("<IHBBqIIII")
    batches = []
    for start in range(0, len(keys), batch):
        out = bytearray()
        for n, key in enumerate(keys[start : start + batch], start):
            value = payload(n, salt)
            size = 32 + len(key) + len(value) + 7 & ~7
            out += head.pack(size, 1, 1, 0, 1_700_000_000_000 + n, len(key), len(value), 0, 0)
            out += key + value + b"\0" * (size - 32 - len(key) - len(value))
        batches.append(bytes(out))
    return batches


def open_shard(folder: Path, number: int) -> "apsw.Connection":  # noqa: F821
    from litejoin.store import shard

    identity = shard.Identity(number, "e")
    path = folder / f"bench-{number}.db"
    connection = shard.open_writer(path, identity, "normal", create=True)
    shard.create_topic_table(connection, 1, time_index=False)
    return connection


def in_threads(work: Callable[[int], None], threads: int) -> tuple[float, float]:
    """Run `work(0..threads-1)`; CPU and wall seconds."""
    started = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    cpu, wall = time.process_time(), time.perf_counter()
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return time.process_time() - cpu, time.perf_counter() - wall


def run_native(case: dict, folder: Path) -> dict:
    from litejoin._ext.batch import BatchWriter

    shards, threads = case.get("shards", 1), case.get("threads", 1)
    connections = [open_shard(folder, number) for number in range(shards)]
    keys = make_keys(case["keys"], case["rows"])
    groups = [
        BatchWriter(
            [(n, connections[n]) for n in range(shards) if n % threads == thread],
            shards,
            checksums=case.get("checksums", False),
            records=case.get("records", False),
            plain=not case.get("versions", False),
        )
        for thread in range(threads)
    ]
    passes = [packed(keys, salt, case["batch"]) for salt in range(case.get("passes", 1))]

    def work(thread: int) -> None:
        writer, seq = groups[thread], 0
        for batches in passes:
            for batch in batches:
                seq += 1
                writer.write([batch], seq, want_changes=case.get("versions", False))
                if case.get("records"):
                    for shard in range(thread, shards, threads):
                        writer.trim(shard, seq)

    cpu, wall = in_threads(work, threads)
    pages = sum(sum(group.wal_pages().values()) for group in groups)
    for group in groups:
        group.close()
    stored = sum(c.execute("SELECT count(*) FROM t1").get for c in connections)
    assert stored == len(set(keys)), stored
    return {"cpu_s": cpu, "wall_s": wall, "rows": case["rows"] * len(passes), "wal_pages": pages}


class CRow(ctypes.Structure):
    _fields_ = [
        ("key", ctypes.c_char_p),
        ("payload", ctypes.c_char_p),
        ("key_len", ctypes.c_int32),
        ("payload_len", ctypes.c_int32),
        ("timestamp_ms", ctypes.c_int64),
    ]


def run_c(case: dict, folder: Path) -> dict:
    from litejoin._ext import bridge

    connection = open_shard(folder, 0)
    library = ctypes.CDLL(case["library"])
    keys = make_keys(case["keys"], case["rows"])
    passes = []
    for salt in range(case.get("passes", 1)):
        rows = (CRow * case["rows"])()
        for n, key in enumerate(keys):
            rows[n] = CRow(key, payload(n, salt), len(key), PAYLOAD_BYTES, 1_700_000_000_000 + n)
        passes.append(rows)
    pointer = ctypes.c_void_p(connection.sqlite3_pointer())
    api = ctypes.c_void_p(bridge.api_pointer())

    def work(_: int) -> None:
        for rows in passes:
            code = library.loop(
                api, pointer, rows, ctypes.c_long(case["rows"]), ctypes.c_long(case["batch"])
            )
            assert code == 0, code

    cpu, wall = in_threads(work, 1)
    assert connection.execute("SELECT count(*) FROM t1").get == len(set(keys))
    return {"cpu_s": cpu, "wall_s": wall, "rows": case["rows"] * len(passes)}


UPSERT = (
    "INSERT INTO t1(key,payload,timestamp_ms,op,changes,checksum) VALUES(?,?,?,1,NULL,0)"
    " ON CONFLICT(key) DO UPDATE SET payload=excluded.payload,op=2,changes=excluded.changes,"
    "timestamp_ms=excluded.timestamp_ms,checksum=excluded.checksum"
)


def run_stdlib(case: dict, folder: Path) -> dict:
    import sqlite3

    connection = sqlite3.connect(folder / "bench.db", isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA cache_size=-4096")
    connection.execute(
        "CREATE TABLE t1(id INTEGER PRIMARY KEY, key TEXT NOT NULL, payload TEXT NOT NULL,"
        " timestamp_ms INTEGER NOT NULL, op INTEGER NOT NULL, changes TEXT,"
        " checksum INTEGER NOT NULL)"
    )
    connection.execute("CREATE UNIQUE INDEX t1_key ON t1(key)")
    keys = [key.decode() for key in make_keys(case["keys"], case["rows"])]
    passes = [
        [(key, payload(n, salt).decode(), 1_700_000_000_000 + n) for n, key in enumerate(keys)]
        for salt in range(case.get("passes", 1))
    ]

    def work(_: int) -> None:
        for rows in passes:
            for start in range(0, case["rows"], case["batch"]):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(UPSERT, rows[start : start + case["batch"]])
                connection.execute("COMMIT")

    cpu, wall = in_threads(work, 1)
    (stored,) = connection.execute("SELECT count(*) FROM t1").fetchone()
    assert stored == len(set(keys))
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "rows": case["rows"] * len(passes),
        "sqlite": sqlite3.sqlite_version,
    }


def run_store(case: dict, folder: Path) -> dict:
    """The whole store: records, checksums, marks, checkpoints on their thread, the final one
    too.
    """
    from litejoin.store.writer import ShardStore

    keys = make_keys(case["keys"], case["rows"])
    passes = [packed(keys, salt, case["batch"]) for salt in range(case.get("passes", 1))]
    store = ShardStore.open(
        folder / "data", pipeline="bench", shard_count=case["shards"], synchronous="normal"
    )
    store.create_topic("orders")

    def work(_: int) -> None:
        for batches in passes:
            for batch in batches:
                seq = store.flush([batch]).seq
                store.trim_batches(dict.fromkeys(range(case["shards"]), seq))
        store.close()

    cpu, wall = in_threads(work, 1)
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "rows": len(keys) * len(passes),
        "peak_rss_mb": peak_rss_mb(),
    }


def peak_rss_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    case = json.loads(sys.argv[1])
    run = {"native": run_native, "c": run_c, "stdlib": run_stdlib, "store": run_store}[case["kind"]]
    print(json.dumps(run(case, Path(case["folder"]))))


if __name__ == "__main__":
    main()
