"""What every benchmark writes: one JSON object with its figures, the commit, the machine and
versions.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"


def environment() -> dict[str, Any]:
    """Commit, machine and versions; figures of two machines are never compared as they are."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    model = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "commit": commit,
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        "sqlite": apsw.sqlite_lib_version(),
        "kernel": platform.release(),
    }


def write(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and store them as bench/out/NAME.json."""
    report = {"benchmark": name, **environment(), "figures": figures}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
