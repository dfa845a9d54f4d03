"""Random queries over random histories: 500 (query, history) pairs here, more by

    python -m tests.differential.fuzz --pairs 20000

LITEJOIN_SEED=<seed> replays one round.
"""

import os
from pathlib import Path

import pytest

from tests.differential.machine import QUERIES_PER_ROUND, Tally, run_round

ROUNDS = 500 // QUERIES_PER_ROUND + 1


def seeds() -> list[int]:
    fixed = os.environ.get("LITEJOIN_SEED")
    return [int(fixed)] if fixed else list(range(ROUNDS))


@pytest.mark.parametrize("seed", seeds())
def test_any_query_over_any_history_equals_plain_sqlite(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    tally = Tally()
    run_round(seed, tmp_path / "data", tally)
    assert tally.pairs == QUERIES_PER_ROUND
