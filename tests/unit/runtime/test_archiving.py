"""Deletions of archived rows let pushes go first, though not for ever."""

import pytest

from litejoin.runtime.archiving import PATIENCE_S, YIELD_FACTOR, yield_factor


@pytest.mark.parametrize(
    ("round_s", "factor"),
    [
        (0, YIELD_FACTOR),
        (PATIENCE_S, YIELD_FACTOR),
        (1.5 * PATIENCE_S, YIELD_FACTOR / 2),
        (2 * PATIENCE_S, 0),
        (50 * PATIENCE_S, 0),
    ],
)
def test_a_round_that_takes_long_gives_way_less(round_s: float, factor: float) -> None:
    assert yield_factor(round_s) == factor
