"""Random terms of queries: names, JSON paths, values made of them, conditions, aggregates.

The lower half of `grammar`. Every term has one value, whatever order SQLite reads rows in; sums are
of numbers that add up exactly in any order.
"""

import random
from dataclasses import dataclass

TOPICS = ("orders", "users", "products")
AGE_S = 3_600
"""What time-bounded conditions take for old."""


@dataclass
class Relation:
    """Something in FROM: how it is written, and its columns by what they hold."""

    sql: str
    alias: str
    keys: list[str]
    scalars: list[str]
    numbers: list[str]
    is_topic: bool = False


@dataclass(frozen=True)
class Input:
    """Results of a window or of another join: they can be read like a topic."""

    name: str
    columns: tuple[str, ...]
    kind: str


class Terms:
    """Small choices from one source of randomness, each noted by the name of its construct."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tags: set[str] = set()
        self.count = 0

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def alias(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def pick(self, choices: list[tuple[str, str]]) -> str:
        """One of (construct, text); the construct is noted."""
        tag, text = self.rng.choice(choices)
        self.tags.add(tag)
        return text

    def path(self, alias: str) -> str:
        name = self.rng.choice(["a", "a", "b", "c", "o.x"])
        if self.chance(0.06):
            return self.pick(
                [
                    ("nested array", f"json_extract({alias}.payload, '$.tags[0]')"),
                    ("nested array", f"{alias}.payload ->> '$.tags[1][0]'"),
                    ("json text", f"{alias}.payload -> '$.{name}'"),
                    ("json null", f"json_type({alias}.payload, '$.{name}')"),
                ]
            )
        return self.rng.choice(
            [
                f"json_extract({alias}.payload, '$.{name}')",
                f"{alias}.payload ->> '$.{name}'",
                f"({alias}.payload ->> '$.{name}')",
            ]
        )

    def scalar(self, relation: Relation) -> str:
        text = self.rng.choice(relation.scalars) if relation.scalars else relation.keys[0]
        if self.rng.random() < 0.6:
            return text
        return self.pick(
            [
                ("cast text", f"CAST({text} AS TEXT)"),
                ("cast integer", f"CAST({text} AS INTEGER)"),
                ("cast real", f"CAST({text} AS REAL)"),
                ("coalesce", f"coalesce({text}, 'u1')"),
                ("ifnull", f"ifnull({text}, 7)"),
                ("lower", f"lower({text})"),
                ("case", f"CASE WHEN {text} IS NULL THEN 'u2' ELSE {text} END"),
                ("nullif", f"nullif({text}, 'u1')"),
                ("cast numeric", f"CAST({text} AS NUMERIC)"),
                ("concat", f"{text} || ''"),
                ("length", f"length({text})"),
            ]
        )

    def term(self, relation: Relation) -> str:
        """A side of an equality."""
        return self.rng.choice(relation.keys) if self.chance(0.4) else self.scalar(relation)

    def equality(self, one: Relation, other: Relation) -> str:
        """What ties two relations: mostly one plain equality."""
        left, right = self.term(one), self.term(other)
        if self.chance(0.88):
            return f"{left} = {right}" if self.chance(0.5) else f"{right} = {left}"
        if self.chance(0.5):
            one, other, left, right = other, one, right, left
        more = self.term(other)
        return self.pick(
            [
                ("collate", f"{left} = {right} COLLATE NOCASE"),
                ("is", f"{left} IS {right}"),
                ("or", f"({left} = {right} OR {left} = {more})"),
                ("row value", f"({left}, {self.term(one)}) = ({right}, {more})"),
                ("in list", f"{left} IN ({right}, {more})"),
            ]
        )

    def predicate(self, relation: Relation) -> str:
        if relation.is_topic and self.chance(0.06):
            return self.recent(relation)
        text = self.scalar(relation)
        return self.rng.choice(
            [
                f"{text} IS NOT NULL",
                f"{text} IS NULL",
                f"{text} <> 'u1'",
                f"{text} > 5",
                f"{text} IN ('u1', 7, '5')",
                f"NOT {text} = 'u2'",
                f"({text} = 'u1' OR {relation.keys[0]} <> 'u1')",
                f"{text} BETWEEN 1 AND 'z'",
                f"{text} LIKE 'u%'",
                f"{text} COLLATE NOCASE = 'U1'",
                f"{relation.keys[0]} IN ('U1', 'u2', 5)",
            ]
        )

    def recent(self, relation: Relation) -> str:
        """A condition that time makes false."""
        at = f"{relation.alias}.timestamp"
        self.tags.add("clock")
        return self.rng.choice(
            [
                f"{at} > strftime('%s', 'now') - {AGE_S}",
                f"{at} >= unixepoch('now', '-{AGE_S} seconds')",
                f"datetime({at}, 'unixepoch') > datetime('now', '-{AGE_S} seconds')",
            ]
        )

    def aggregate(self, relations: list[Relation]) -> str:
        relation = self.rng.choice([r for r in relations if r.numbers])
        number, text = self.rng.choice(relation.numbers), relation.keys[0]
        return self.pick(
            [
                ("count", "count(*)"),
                ("count", f"count({number})"),
                ("count distinct", f"count(DISTINCT {number})"),
                ("sum", f"sum({number})"),
                ("total", f"total({number})"),
                ("avg", f"avg({number})"),
                ("min", f"min({number})"),
                ("max", f"max({number})"),
                ("filter", f"count(*) FILTER (WHERE {number} > 1)"),
                ("filter", f"sum({number}) FILTER (WHERE {text} <> 'u1')"),
                ("group_concat", f"group_concat({text}, ',' ORDER BY quote({text}))"),
                ("json_group_array", f"json_group_array({text} ORDER BY quote({text}))"),
            ]
        )
