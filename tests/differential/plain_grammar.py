"""Random joins of the native kind, which the wide grammar seldom makes."""

from tests.differential.grammar import Generated, QueryMaker, Relation


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
