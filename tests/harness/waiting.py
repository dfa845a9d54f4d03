"""Waiting with a deadline, in one place.

Tests never sleep for a guess: they ask again until the answer is right or the time is up, and then
fail with the last answer. Every deadline is multiplied by `LITEJOIN_TEST_SLOW` (default 1) for slow
machines.
"""

import os
import time
from collections.abc import Callable
from typing import Any

SLOW = float(os.environ.get("LITEJOIN_TEST_SLOW", "1"))


def eventually(check: Callable[[], Any], timeout_s: float = 10.0, *, every_s: float = 0.02) -> Any:
    """The first truthy value of `check`; fails with its last complaint.

    Only AssertionError means "not yet": any other exception is a fault of the test and passes
    through.
    """
    deadline = time.monotonic() + timeout_s * SLOW
    while True:
        last: AssertionError
        try:
            value = check()
            if value:
                return value
            last = AssertionError(f"still {value!r}")
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"not so after {timeout_s * SLOW:g} s: {last}") from last
        time.sleep(every_s)


def never(check: Callable[[], object], during_s: float = 0.3) -> None:
    """For what must not happen: fails as soon as `check` returns something truthy."""
    deadline = time.monotonic() + during_s
    while time.monotonic() < deadline:
        value = check()
        assert not value, f"happened, and must not: {value!r}"
        time.sleep(0.02)
