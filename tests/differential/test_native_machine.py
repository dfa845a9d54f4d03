"""The differential machine over joins of the native kind, which its own grammar seldom makes.

LITEJOIN_SEED=<seed> replays one round, LITEJOIN_ROUNDS=<n> runs more of them.
"""

import os
from pathlib import Path

from tests.differential import machine
from tests.differential.plain_grammar import PlainJoins

ROUNDS = int(os.environ.get("LITEJOIN_ROUNDS", "3"))
FIRST_SEED = 41_000


def seeds() -> list[int]:
    fixed = os.environ.get("LITEJOIN_SEED")
    return [int(fixed)] if fixed else list(range(FIRST_SEED, FIRST_SEED + ROUNDS))


def test_native_joins_equal_sqlite(tmp_path: Path) -> None:
    tally = machine.Tally()
    for seed in seeds():
        made = machine.Round(seed, tally, PlainJoins)
        made.level = "native"
        print(f"seed {seed}")
        made.run(tmp_path / str(seed))
    print(f"{tally.pairs} pairs, {dict(tally.strategies)}, {tally.reasons.most_common(8)}")
    assert tally.strategies["native"] > tally.pairs // 4
