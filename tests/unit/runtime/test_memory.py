"""Memory of large blocks goes back when they are freed."""

import os
import subprocess
import sys

SCRIPT = """
from litejoin.runtime.memory import settle_allocator

def rss_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

print(settle_allocator())
before = rss_mb()
for size in (30_000_000, 29_000_000, 28_000_000):
    block = bytearray(b"x") * size
    held = rss_mb() - before
    del block
print(held > 25, rss_mb() - before < 5)
"""


def told(**env: str) -> list[str]:
    """What the script prints in a process of its own: the setting is for good."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**kept, **env}, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.split()


def test_what_a_large_block_held_is_free_again() -> None:
    assert told() == ["True", "True", "True"]


def test_a_setting_of_the_environment_stands() -> None:
    assert told(MALLOC_ARENA_MAX="2")[0] == "False"
