"""The long run of the differential machine: `python -m tests.differential.fuzz --pairs 20000`.

Each seed is a round of one kind, most of them of the wide grammar; `--grammar` takes one kind only.
Prints the distribution over constructs and strategies. A difference prints its seed, which
`--seed N --rounds 1` replays; `--keep-going` counts them instead of stopping.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.differential.grammar import QueryMaker
from tests.differential.grouped_grammar import GroupedQueries, GroupedRound
from tests.differential.killed import KilledRound
from tests.differential.layered import LayeredRound
from tests.differential.machine import Difference, MakeRound, Round, Tally, run_round
from tests.differential.plain_grammar import PlainJoins

GRAMMARS: dict[str, tuple[MakeRound, type[QueryMaker]]] = {
    "wide": (Round, QueryMaker),
    "grouped": (GroupedRound, GroupedQueries),
    "plain": (Round, PlainJoins),
    "layered": (LayeredRound, QueryMaker),
    "killed": (KilledRound, QueryMaker),
}
SHARES = {"wide": 60, "grouped": 15, "plain": 10, "layered": 10, "killed": 5}
"""How the rounds of a mixed run are made up."""


def kind_of(seed: int) -> str:
    """The grammar of a seed in a mixed run."""
    kinds, shares = zip(*SHARES.items(), strict=True)
    return str(random.Random(f"kind {seed}").choices(kinds, shares)[0])


def main() -> int:
    """Exit 1 when there was a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--grammar", choices=["mixed", *sorted(GRAMMARS)], default="mixed")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--keep-going", action="store_true")
    wanted = parser.parse_args()
    tally, seed, differences = Tally(), wanted.seed, 0
    started = time.monotonic()
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        while (seed - wanted.seed < wanted.rounds) if wanted.rounds else tally.pairs < wanted.pairs:
            if wanted.seconds and time.monotonic() - started > wanted.seconds:
                break
            root, grammar = place / str(seed), wanted.grammar
            if grammar == "mixed":
                grammar = kind_of(seed)
            tally.events[f"{grammar} rounds"] += 1
            try:
                run_round(seed, root, tally, *GRAMMARS[grammar])
            except Difference as difference:
                differences += 1
                print(difference, flush=True)
                if not wanted.keep_going:
                    break
            shutil.rmtree(root, ignore_errors=True)
            seed += 1
    finally:
        shutil.rmtree(place, ignore_errors=True)
    report(tally, time.monotonic() - started, differences, wanted.seed, seed)
    return bool(differences)


def report(tally: Tally, seconds: float, differences: int, first: int, after: int) -> None:
    """Print what the run was made of."""
    print(
        f"{tally.pairs} query-history pairs, {tally.checks} comparisons, seeds {first}..{after - 1}"
    )
    print(
        f"{seconds:.0f} s, {tally.pairs / max(seconds, 1e-9):.0f} pairs/s, {tally.refused} invalid"
    )
    print(f"differences: {differences}; strategies: {dict(tally.strategies)}")
    print(f"rounds: {dict(sorted(tally.events.items()))}")
    strategies = sorted(tally.strategies)
    for tag in sorted({tag for tag, _ in tally.constructs}):
        counts = " ".join(f"{s} {tally.constructs[tag, s]}" for s in strategies)
        print(f"  {tag:<20} {counts}")
    print("reasons for full re-evaluation:")
    for reason, count in tally.reasons.most_common(20):
        print(f"  {count:>6} {reason[:100]}")


if __name__ == "__main__":
    sys.exit(main())
