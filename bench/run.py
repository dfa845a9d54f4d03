"""Runs the benchmarks one after another: `make bench`, or `make bench BENCH="joins pipeline"`.

Each is a program of its own (`python -m bench.micro.joins`); run them on a machine that does
nothing else, for these figures are ratios within one run and still suffer from neighbours.
"""

import subprocess
import sys

BENCHES = {
    "route": "bench.micro.route",
    "diff": "bench.micro.record_diff",
    "writer": "bench.micro.writer",
    "joins": "bench.micro.joins",
    "http": "bench.micro.http_load",
    "pipeline": "bench.e2e.pipeline",
    "latency": "bench.e2e.latency",
    "sse": "bench.e2e.sse",
    "delivery": "bench.e2e.delivery",
    "guarantees": "bench.e2e.guarantees",
    "windows": "bench.windows.streams",
    "polls": "bench.e2e.polls",
    "kafka": "bench.e2e.kafka",
    "storage": "bench.e2e.storage",
    "replication": "bench.e2e.replication",
}


def main() -> int:
    """Returns 0 when every benchmark ran, 2 for a name that is none."""
    wanted = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    for name in wanted:
        print(f"=== {name}", flush=True)
        subprocess.run([sys.executable, "-m", BENCHES[name]], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
