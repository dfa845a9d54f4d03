"""What every suite shares: fixtures, hypothesis profiles, and a plain word when nothing is built.

`HYPOTHESIS_PROFILE=thorough make test` draws new examples and searches twenty times as long;
`LITEJOIN_EXAMPLES=N` sets the number of new examples by hand. A failing example prints the line
that replays it.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.harness import small_disk
from tests.harness.fixtures import launch, launch_shared, receiver, upstream

__all__ = ["launch", "launch_shared", "receiver", "upstream"]

ROOT = Path(__file__).resolve().parent.parent

# No deadline: one slow example on a busy machine is not a failure, the test's timeout is.
# `quick` draws the same examples each time: a red run points at the change. `thorough` draws
# new ones.
settings.register_profile(
    "quick", max_examples=50, deadline=None, print_blob=True, derandomize=True
)
settings.register_profile("thorough", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
if examples := os.environ.get("LITEJOIN_EXAMPLES"):
    settings.register_profile("by hand", settings(), max_examples=int(examples), derandomize=False)
    settings.load_profile("by hand")


def pytest_sessionstart() -> None:
    """Without its native modules the package cannot be imported; say so once, with the way out."""
    wanted = {path.stem for path in (ROOT / "_ext").glob("*.pyx")}
    built = {path.name.split(".")[0] for path in (ROOT / "litejoin" / "_ext").glob("*.so")}
    if wanted - built:
        raise pytest.UsageError(
            f"native modules are not built: {', '.join(sorted(wanted - built))}. "
            "Run `make test`, or `python setup.py build_ext --inplace`."
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A disk that was full in name only is told, though every test passed."""
    passed = terminalreporter.getreports("passed")
    if any("test_full_disk" in report.nodeid for report in passed):
        if small_disk.allowed()[0] is small_disk.Kind.LIBRARY:
            terminalreporter.write_line(f"test_full_disk: {small_disk.STAND_IN}", red=True)
