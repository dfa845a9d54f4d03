"""The batch writer against the same loop in C and against stdlib executemany.

    python -m bench.micro.writer [--rows N] [--rounds N] [--folder DIR] [--out FILE]

Prints one JSON document. Every measurement runs in a process of its own (the standard library
brings a second SQLite) on a fresh directory, by default in /dev/shm: the disk is not what is
compared. Cases take turns, round by round, so that a busy machine slows them alike; a ratio is the
median over the rounds. Rows per CPU second count the CPU of all threads, the checkpoint thread's
too.

    plain        upserts only: what the C loop does, and nobody asks what was there before
    versions     + old versions read in the same pass, change rows returned
    checksums    + XXH64 over each row
    records      + one batch record a transaction (the product's path)
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import ROOT, environment

SOURCE = Path(__file__).with_name("writer.c")

PLAIN = {"kind": "native"}
VERSIONS = {**PLAIN, "versions": True}
CHECKSUMS = {**VERSIONS, "checksums": True}
RECORDS = {**CHECKSUMS, "records": True}

LOOPS = {
    "c": {"kind": "c"},
    "plain": PLAIN,
    "versions": VERSIONS,
    "checksums": CHECKSUMS,
    "records": RECORDS,
    "stdlib": {"kind": "stdlib"},
}
THREADS = {
    "one": {**PLAIN, "shards": 2, "threads": 1, "batch": 10_000},
    "two": {**PLAIN, "shards": 2, "threads": 2, "batch": 10_000},
}
BACKLOG = {
    "fixed_1000": {"kind": "store", "shards": 8, "batch": 1_000, "passes": 1},
    "backlog_20000": {"kind": "store", "shards": 8, "batch": 20_000, "passes": 1},
}


def compile_loop(folder: Path) -> Path:
    library = folder / "writer_c.so"
    flags = ["-O2", "-shared", "-fPIC", "-Wall", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", library, SOURCE], check=True)
    return library


def measure(case: dict[str, object], parent: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        command = [sys.executable, "-m", "bench.micro.writer_child"]
        argument = json.dumps({"batch": 1000, "passes": 3, **case, "folder": folder})
        child = subprocess.run([*command, argument], cwd=ROOT, capture_output=True, text=True)
    if child.returncode:
        raise SystemExit(f"{case}: {child.stderr}")
    found: dict[str, float] = json.loads(child.stdout)
    return found


def rounds_of(
    cases: dict[str, dict[str, object]], common: dict[str, object], rounds: int, folder: Path
) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(measure({**case, **common}, folder))
    return found


def rate(run: dict[str, float], clock: str) -> float:
    return run["rows"] / run[clock]


def rates(found: dict[str, list[dict[str, float]]], clock: str) -> dict[str, int]:
    return {
        name: round(statistics.median(rate(r, clock) for r in runs)) for name, runs in found.items()
    }


def ratio(found: dict[str, list[dict[str, float]]], name: str, base: str, clock: str) -> float:
    pairs = zip(found[name], found[base], strict=True)
    return round(statistics.median(rate(a, clock) / rate(b, clock) for a, b in pairs), 3)


def loops(keys: str, rows: int, rounds: int, folder: Path, library: Path) -> dict[str, object]:
    common = {"keys": keys, "rows": rows, "library": str(library)}
    found = rounds_of(LOOPS, common, rounds, folder)
    cpu = {
        name: statistics.median(r["cpu_s"] / r["rows"] * 1e6 for r in runs)
        for name, runs in found.items()
    }
    return {
        "rows_per_cpu_s": rates(found, "cpu_s"),
        "plain_vs_c": ratio(found, "plain", "c", "cpu_s"),
        "records_vs_stdlib": ratio(found, "records", "stdlib", "cpu_s"),
        "us_per_row": {
            "plain": round(cpu["plain"], 3),
            "versions_add": round(cpu["versions"] - cpu["plain"], 3),
            "checksums_add": round(cpu["checksums"] - cpu["versions"], 3),
            "records_add": round(cpu["records"] - cpu["checksums"], 3),
        },
    }


def run_all(rows: int, rounds: int, folder: Path) -> dict[str, object]:
    with tempfile.TemporaryDirectory(dir=folder) as build:
        library = compile_loop(Path(build))
        by_keys = {
            key: loops(key, rows, rounds, folder, library) for key in ("sequential", "random")
        }
    threads = {}
    for keys in ("sequential", "random"):
        found = rounds_of(THREADS, {"keys": keys, "rows": rows}, rounds, folder)
        threads[keys] = {
            "rows_per_s": rates(found, "wall_s"),
            "two_vs_one": ratio(found, "two", "one", "wall_s"),
        }
    backlog = rounds_of(BACKLOG, {"keys": "random", "rows": 4 * rows}, rounds, folder)
    return {
        **by_keys,
        "threads": threads,
        "random_keys_8_shards": {
            "rows_per_s": rates(backlog, "wall_s"),
            "rows_per_cpu_s": rates(backlog, "cpu_s"),
            "backlog_vs_fixed": ratio(backlog, "backlog_20000", "fixed_1000", "wall_s"),
        },
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", type=int, default=100_000, help="rows of a case, four times for random"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    document = {
        "bench": "writer",
        **environment(),
        "pragmas": "WAL, synchronous NORMAL, page_size 4096",
        "rows": options.rows,
        "rounds": options.rounds,
        **run_all(options.rows, options.rounds, options.folder),
    }
    text = json.dumps(document, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
