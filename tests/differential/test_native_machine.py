"""The differential machine over joins of the native kind, which its own grammar seldom makes.

LITEJOIN_SEED=<seed> replays one round, LITEJOIN_ROUNDS=<n> runs more of them.
"""

import os
from pathlib import Path

from tests.differential import machine
from tests.differential.grammar import Generated, QueryMaker, Relation

ROUNDS = int(os.environ.get("LITEJOIN_ROUNDS", "3"))
FIRST_SEED = 41_000


class PlainJoins(QueryMaker):
    """Topics tied by equalities, conditions and columns that read one topic each."""

    def query(self) -> Generated:
        self.tags, self.ctes, self.count = set(), [], 0
        relations, where = [self.topic()], list[str]()
        sql, inner = relations[0].sql, [relations[0]]
        for _ in range(self.rng.choice([0, 1, 1, 1, 2, 2, 3])):
            new, old = self.topic(), self.rng.choice(relations)
            on = f"{self.term(old)} = {self.term(new)}"
            if self.chance(0.15):
                on += f" AND {self.term(self.rng.choice(relations))} = {self.term(new)}"
            if self.chance(0.3):
                on += f" AND {self.condition(self.rng.choice([new, old]))}"
            word = self.rng.choice(["JOIN", "LEFT JOIN", ","])
            if word == ",":
                sql += f", {new.sql}"
                where.append(on)
            else:
                sql += f" {word} {new.sql} ON {on}"
            relations.append(new)
            inner += [new] if word != "LEFT JOIN" else []
        where += [self.condition(self.rng.choice(relations)) for _ in range(self.chance(0.4))]
        columns = [self.key_of(self.rng.choice(inner))]
        columns += [self.term(self.rng.choice(relations)) for _ in range(3)]
        shown = ", ".join(f"{text} AS x{i}" for i, text in enumerate(columns))
        tail = f" WHERE {' AND '.join(where)}" if where else ""
        return Generated(f"SELECT {shown} FROM {sql}{tail}", {"plain join"})

    def key_of(self, relation: Relation) -> str:
        return relation.keys[0] if self.chance(0.7) else self.scalar(relation)

    def condition(self, relation: Relation) -> str:
        """A comparison with a literal half of the time: those are checked without SQL."""
        if self.chance(0.5):
            return self.predicate(relation)
        path = f"{relation.alias}.payload ->> '$.a'"
        literal = self.rng.choice(["'u1'", "7", "'7'", "5", "'5.0'"])
        return self.rng.choice(
            [f"{path} = {literal}", f"{literal} = {path}", f"{relation.alias}.key = 'u1'"]
        )


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
