"""The shard router beside its twin in Python and the CRC of the standard library.

    python -m bench.micro.route [--keys N] [--rounds N]

CPU nanoseconds a key for keys of 8, 36 and 200 bytes, as Python calls it one by one (the writer
routes inside its own pass), and MB/s of the hash over one long key. Before anything is timed, every
key is routed by the twin, too; how evenly 8 shards are filled is reported as the fullest over the
mean.
"""

import argparse
import statistics
import sys
import time
import zlib
from collections.abc import Callable

from bench import report
from litejoin._ext.route import fnv1a32, shard_of
from tests.reference import route as twin

SHARDS = 8
SIZES = (8, 36, 200)
LONG = b"0123456789abcdef" * 65_536


def keys_of(size: int, count: int) -> list[bytes]:
    return [b"%0*d" % (size, n * 7919) for n in range(count)]


def cpu_ns(work: Callable[[bytes, int], int], keys: list[bytes]) -> float:
    began = time.process_time_ns()
    for key in keys:
        work(key, SHARDS)
    return (time.process_time_ns() - began) / len(keys)


def crc(key: bytes, shards: int) -> int:
    return zlib.crc32(key) % shards


def check(keys: list[bytes]) -> float:
    """Routes as the twin does; the fullest shard over the mean."""
    filled = [0] * SHARDS
    for key in keys:
        shard = shard_of(key, SHARDS)
        assert shard == twin.shard_of(key, SHARDS), key
        filled[shard] += 1
    return max(filled) * SHARDS / len(keys)


def measure(size: int, count: int, rounds: int) -> dict[str, float]:
    keys = keys_of(size, count)
    fullest = check(keys)
    works = {"native": shard_of, "crc32": crc, "python": twin.shard_of}
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(cpu_ns(work, keys))
    times = {f"{name}_ns": round(statistics.median(each), 1) for name, each in found.items()}
    return {**times, "fullest_shard": round(fullest, 3)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    sizes = {f"{size}_bytes": measure(size, options.keys, options.rounds) for size in SIZES}
    began = time.process_time_ns()
    for _ in range(options.rounds):
        fnv1a32(LONG)
    spent_s = (time.process_time_ns() - began) / 1e9
    megabytes = options.rounds * len(LONG) / 1e6
    report.write("route", {"key": sizes, "long_key_mb_per_s": round(megabytes / spent_s)})


if __name__ == "__main__":
    main(sys.argv[1:])
