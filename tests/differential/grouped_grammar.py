"""Random queries with GROUP BY over plain joins, and histories with numbers that are hard to add.

Every result is the same in whatever order SQLite reads rows: reals and large integers are positive
where they would cancel each other, so that no sum hangs on the order of its additions.
"""

from tests.differential.grammar import Generated, QueryMaker, Relation
from tests.differential.machine import Round

NUMBERS = (
    1,
    2,
    -3,
    0.5,
    0.1,
    12.34,
    7.77,
    1e-7,
    123456.789,
    2.0,
    None,
    "5",
    "5.25",
    "12abc",
    "x",
    True,
    2**53 + 1,
    2**40,
    1e300,
    "é",
    0,
    0.0,
)

AGGREGATES = (
    "COUNT(*)",
    "count({n})",
    "sum({n})",
    "sum({n})",
    "total({n})",
    "avg({n})",
    "min({n})",
    "max({n})",
    "max({key})",
    "min({f})",
    "sum({n}) FILTER (WHERE {f} <> 'u1')",
    "count(*) FILTER (WHERE {n} > 1)",
    "max({n}) FILTER (WHERE {key} <> 'u1')",
    "sum({n} * 2)",
    "round(avg({n}), 2)",
    "coalesce(max({n}), 0) + count(*)",
    "sum(length({key}))",
)
HAVING = ("count(*) > 1", "x1 IS NOT NULL", "x0 IS NULL", "max({n}) > 1", "count(*) <> 2")


class GroupedQueries(QueryMaker):
    """Topics tied by equalities, one or two terms, two aggregates."""

    def query(self) -> Generated:
        self.tags, self.ctes, self.count = {"group by"}, [], 0
        relations, where = [self.topic()], list[str]()
        sql, inner = relations[0].sql, [relations[0]]
        for _ in range(self.rng.choice([0, 0, 1, 1, 1, 2])):
            new, old = self.topic(), self.rng.choice(inner)
            on = f"{self.term(old)} = {self.term(new)}"
            if self.chance(0.2):
                on += f" AND {self.predicate(self.rng.choice([new, old]))}"
            word = self.rng.choice(["JOIN", "LEFT JOIN", "LEFT JOIN", ","])
            if word == ",":
                sql += f", {new.sql}"
                where.append(on)
            else:
                sql += f" {word} {new.sql} ON {on}"
            self.tags.add(word.lower().replace(",", "comma join"))
            relations.append(new)
            inner += [new] if word != "LEFT JOIN" else []
        where += [self.predicate(self.rng.choice(relations)) for _ in range(self.chance(0.3))]
        return self._grouped(sql, relations, inner, where)

    def _grouped(
        self, sql: str, relations: list[Relation], inner: list[Relation], where: list[str]
    ) -> Generated:
        first = self.rng.choice(inner)
        items = [first.keys[0] if self.chance(0.3) else self.scalar(first)]
        terms = [self.rng.choice(["x0", "1", items[0]])]
        items += [self._aggregate(relations) for _ in range(2)]
        if self.chance(0.25):
            items.append(self.scalar(self.rng.choice(relations)))
            terms.append(items[-1])
            self.tags.add("two terms")
        shown = ", ".join(f"{text} AS x{i}" for i, text in enumerate(items))
        tail = f" WHERE {' AND '.join(where)}" if where else ""
        tail += f" GROUP BY {', '.join(terms)}"
        if self.chance(0.25):
            relation = self.rng.choice(relations)
            tail += f" HAVING {self.rng.choice(HAVING).format(n=relation.numbers[0])}"
            self.tags.add("having")
        return Generated(f"SELECT {shown} FROM {sql}{tail}", set(self.tags))

    def _aggregate(self, relations: list[Relation]) -> str:
        relation = self.rng.choice(relations)
        text = self.rng.choice(AGGREGATES)
        self.tags.add(text.split("(")[0].lower())
        return text.format(
            n=relation.numbers[0], key=relation.keys[0], f=self.rng.choice(relation.scalars)
        )


class GroupedRound(Round):
    """A round at the native level, with numbers of its own."""

    numbers = NUMBERS
    levels = ("native",)
