"""Compares every native module with its hand-written stub, by mypy's stubtest.

Run by `make stubs` and by CI. A module without a stub, or a stub without a module, is an error too.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWLIST = ROOT / "tools" / "stubtest-allowlist.txt"


def main() -> int:
    """Return stubtest's exit code, or 1 when a module and a stub do not pair up."""
    modules = {path.stem for path in (ROOT / "_ext").glob("*.pyx")}
    stubs = {path.stem for path in (ROOT / "litejoin" / "_ext").glob("*.pyi")}
    for name in sorted(modules ^ stubs):
        print(f"litejoin._ext.{name}: {'no stub' if name in modules else 'no module'}")
    if modules != stubs:
        return 1
    command = [sys.executable, "-m", "mypy.stubtest", "--allowlist", str(ALLOWLIST)]
    # Every cdef class is a "disjoint base"; saying so in each stub would tell a reader nothing.
    command += ["--ignore-unused-allowlist", "--ignore-disjoint-bases", "--concise"]
    return subprocess.run(
        [*command, *(f"litejoin._ext.{name}" for name in sorted(modules))], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
