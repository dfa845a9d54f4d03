"""The differential machine over queries with GROUP BY whose groups are kept as accumulators.

LITEJOIN_SEED=<seed> replays one round, LITEJOIN_ROUNDS=<n> runs more of them; thousands by

    python -m tests.differential.fuzz --grammar grouped --pairs 5000
"""

import os
from pathlib import Path

import pytest

from tests.differential import machine
from tests.differential.grouped_grammar import GroupedQueries, GroupedRound

ROUNDS = int(os.environ.get("LITEJOIN_ROUNDS", "6"))
FIRST_SEED = 71_000


def seeds() -> list[int]:
    fixed = os.environ.get("LITEJOIN_SEED")
    return [int(fixed)] if fixed else list(range(FIRST_SEED, FIRST_SEED + ROUNDS))


@pytest.mark.parametrize("seed", seeds())
def test_groups_equal_sqlite(tmp_path: Path, seed: int) -> None:
    tally = machine.Tally()
    print(f"seed {seed}")
    GroupedRound(seed, tally, GroupedQueries).run(tmp_path / "data")
    print(f"{tally.pairs} pairs, {dict(tally.strategies)}, {tally.reasons.most_common(8)}")
    assert tally.strategies["native"]
