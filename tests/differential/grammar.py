"""Random queries over the differential topics, each with the names of the constructs it is made of.

Every query is deterministic: whatever order SQLite reads rows in, its result is the same multiset.
So aggregates that depend on order have an ORDER BY of their own, sums are of numbers that add up
exactly, and nothing reads a column that GROUP BY leaves open.
"""

import random
from dataclasses import dataclass, field

TOPICS = ("orders", "users", "products")
FIELDS = ("a", "b", "c")
"""Any scalar; `n` are small exact numbers, `tags` an array, `o.x` nested."""


@dataclass
class Generated:
    """A query and what it is made of."""

    sql: str
    tags: set[str] = field(default_factory=set)
    ordered: bool = False


@dataclass
class Relation:
    """Something in FROM: how it is written, and its columns by what they hold."""

    sql: str
    alias: str
    keys: list[str]
    scalars: list[str]
    numbers: list[str]


class QueryMaker:
    """Makes one query after another from one source of randomness.

    `twins`: whether the data hold 7 and 7.0 side by side. Then no query in FROM may merge them,
    because which of the two stands for both is SQLite's choice.
    """

    def __init__(self, rng: random.Random, *, twins: bool) -> None:
        self.rng, self.twins = rng, twins
        self.tags: set[str] = set()
        self.ctes: list[str] = []
        self.count = 0

    def query(self) -> Generated:
        """A whole query."""
        self.tags, self.ctes, self.count = set(), [], 0
        kinds = [self.select] * 10 + [self.grouped] * 6 + [self.compound] * 3
        kinds += [self.full_join, self.windowed, self.distinct, self.limited, self.total]
        sql = self.rng.choice(kinds)()
        ordered = False
        if "limit" not in self.tags and self.chance(0.08):
            sql, ordered = f"{sql} ORDER BY 1, 2", True
            self.tags.add("order by")
        prefix = f"WITH {', '.join(self.ctes)} " if self.ctes else ""
        return Generated(prefix + sql, set(self.tags), ordered)

    # -- small choices

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def alias(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def path(self, alias: str) -> str:
        name = self.rng.choice(["a", "a", "b", "c", "o.x"])
        return self.rng.choice(
            [
                f"json_extract({alias}.payload, '$.{name}')",
                f"{alias}.payload ->> '$.{name}'",
                f"({alias}.payload ->> '$.{name}')",
            ]
        )

    def scalar(self, relation: Relation) -> str:
        text = self.rng.choice(relation.scalars) if relation.scalars else relation.keys[0]
        kind = self.rng.random()
        if kind < 0.6:
            return text
        made = self.rng.choice(
            [
                ("cast text", f"CAST({text} AS TEXT)"),
                ("cast integer", f"CAST({text} AS INTEGER)"),
                ("coalesce", f"coalesce({text}, 'u1')"),
                ("ifnull", f"ifnull({text}, 7)"),
                ("lower", f"lower({text})"),
                ("case", f"CASE WHEN {text} IS NULL THEN 'u2' ELSE {text} END"),
                ("nullif", f"nullif({text}, 'u1')"),
                ("cast numeric", f"CAST({text} AS NUMERIC)"),
            ]
        )
        self.tags.add(made[0])
        return made[1]

    def term(self, relation: Relation) -> str:
        """A side of an equality."""
        return self.rng.choice(relation.keys) if self.chance(0.4) else self.scalar(relation)

    def predicate(self, relation: Relation) -> str:
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
            ]
        )

    # -- FROM

    def relation(self, *, plain: bool = False) -> Relation:
        kinds = [self.topic] * 7
        if not plain:
            kinds += [self.derived, self.cte]
            if not self.twins:
                kinds += [self.grouped_source]
        return self.rng.choice(kinds)()

    def topic(self) -> Relation:
        topic, alias = self.rng.choice(TOPICS), self.alias()
        word = " AS " if self.chance(0.3) else " "
        fields = [self.path(alias) for _ in range(3)]
        numbers = [f"json_extract({alias}.payload, '$.n')"]
        if self.chance(0.1):
            fields.append(f"{alias}.timestamp")
        return Relation(f"{topic}{word}{alias}", alias, [f"{alias}.key"], fields, numbers)

    def _inner(self) -> tuple[str, str]:
        inner = self.topic()
        where = f" WHERE {self.predicate(inner)}" if self.chance(0.4) else ""
        other = ""
        if self.chance(0.2):
            second = self.topic()
            other = f" JOIN {second.sql} ON {self.term(inner)} = {self.term(second)}"
            self.tags.add("join in query")
        columns = f"{inner.keys[0]} AS k, {self.scalar(inner)} AS f, {inner.numbers[0]} AS n"
        arm = f"SELECT {columns} FROM {inner.sql}{other}{where}"
        return arm, inner.alias

    def derived(self) -> Relation:
        body, _ = self._inner()
        if self.chance(0.25):
            more, _ = self._inner()
            operator = "UNION ALL" if self.twins or self.chance(0.7) else "UNION"
            body = f"{body} {operator} {more}"
            self.tags.add(f"derived {operator.lower()}")
        self.tags.add("derived table")
        alias = self.alias()
        columns = [f"{alias}.f"]
        return Relation(f"({body}) {alias}", alias, [f"{alias}.k"], columns, [f"{alias}.n"])

    def cte(self) -> Relation:
        name, alias = f"c{len(self.ctes)}", self.alias()
        if self.chance(0.3):
            topic = self.rng.choice(TOPICS)
            self.ctes.append(f"{name} AS (SELECT * FROM {topic} WHERE payload ->> 'b' IS NOT 'u1')")
            columns = ([f"{alias}.key"], [self.path(alias)], [f"{alias}.payload ->> 'n'"])
        else:
            body, _ = self._inner()
            shown = self.rng.choice(["", "(k, f, n)"])
            self.ctes.append(f"{name}{shown} AS ({body})")
            columns = ([f"{alias}.k"], [f"{alias}.f"], [f"{alias}.n"])
        self.tags.add("cte")
        return Relation(f"{name} {alias}", alias, *columns)

    def grouped_source(self) -> Relation:
        inner, alias = self.topic(), self.alias()
        key = self.term(inner)
        aggregate = self.aggregate([inner])
        body = f"SELECT {key} AS g, {aggregate} AS x FROM {inner.sql} GROUP BY {key}"
        if self.chance(0.3):
            body = f"SELECT DISTINCT {key} AS g, 1 AS x FROM {inner.sql}"
        self.tags.add("grouped source")
        if self.chance(0.5):
            name = f"c{len(self.ctes)}"
            self.ctes.append(f"{name} AS ({body})")
            sql = f"{name} {alias}"
        else:
            sql = f"({body}) {alias}"
        return Relation(sql, alias, [f"{alias}.g"], [], [f"{alias}.x"])

    def joined(self, *, plain: bool = False) -> tuple[str, list[Relation]]:
        """A FROM clause with its relations, those that may be NULL last."""
        size = self.rng.choice([1, 1, 2, 2, 2, 3, 3, 4])
        relations = [self.relation(plain=plain)]
        sql, where = relations[0].sql, []
        for number in range(1, size):
            new = self.relation(plain=plain)
            old = self.rng.choice(relations)
            on = f"{self.term(old)} = {self.term(new)}"
            if self.chance(0.5):
                on = f"{self.term(new)} = {self.term(old)}"
            if self.chance(0.25):
                on += f" AND {self.predicate(new)}"
                self.tags.add("residual")
            if self.chance(0.12):
                on += f" AND {self.rng.choice(old.keys)} <= {self.rng.choice(new.keys)}"
                self.tags.add("non-equi")
            kind = self.rng.random()
            if kind < 0.4:
                sql += f" {self.rng.choice(['JOIN', 'INNER JOIN'])} {new.sql} ON {on}"
            elif kind < 0.75:
                sql += f" LEFT JOIN {new.sql} ON {on}"
                self.tags.add("left join")
            elif kind < 0.82 and number == size - 1:
                sql += f" RIGHT JOIN {new.sql} ON {on}"
                self.tags.add("right join")
            else:
                sql += f"{self.rng.choice([', ', ' CROSS JOIN '])}{new.sql}"
                where.append(on)
                self.tags.add("comma join")
            relations.append(new)
        self.tags.add(f"{size}-way")
        if self.chance(0.12):
            sql += self.lateral(relations)
        if self.chance(0.25):
            where.append(self.predicate(self.rng.choice(relations)))
        if self.chance(0.3):
            where.append(self.subquery_predicate(relations))
        return sql + (f" WHERE {' AND '.join(where)}" if where else ""), relations

    def lateral(self, relations: list[Relation]) -> str:
        for relation in relations:
            if relation.keys[0].endswith(".key"):
                alias = self.alias()
                function = self.rng.choice(["json_each", "json_each", "json_tree"])
                self.tags.add(function)
                call = f"{function}({relation.alias}.payload, '$.tags') {alias}"
                relations.append(Relation("", alias, [f"{alias}.value"], [f"{alias}.value"], []))
                if self.chance(0.3):
                    return f" LEFT JOIN {call} ON 1"
                return self.rng.choice([f" CROSS JOIN {call}", f" JOIN {call}"])
        return ""

    # -- subqueries

    def subquery_predicate(self, around: list[Relation]) -> str:
        outer, inner = self.rng.choice(around), self.topic()
        link = f"{self.term(inner)} = {self.term(outer)}"
        if self.chance(0.3):
            link += f" AND {self.predicate(inner)}"
        source = inner.sql
        if self.chance(0.2):
            second = self.topic()
            join = self.rng.choice(["JOIN", "LEFT JOIN"])
            source += f" {join} {second.sql} ON {self.term(second)} = {self.term(inner)}"
            self.tags.add("join in subquery")
        kind = self.rng.random()
        if kind < 0.3:
            self.tags.add("exists")
            return f"EXISTS (SELECT 1 FROM {source} WHERE {link})"
        if kind < 0.5:
            self.tags.add("not exists")
            return f"NOT EXISTS (SELECT 1 FROM {source} WHERE {link})"
        if kind < 0.75:
            self.tags.add("in subquery")
            where = f" WHERE {self.predicate(inner)}" if self.chance(0.4) else ""
            distinct = "DISTINCT " if self.chance(0.1) else ""
            return (
                f"{self.term(outer)} IN (SELECT {distinct}{self.term(inner)} FROM {source}{where})"
            )
        if kind < 0.82:
            self.tags.add("not in subquery")
            return (
                f"{self.term(outer)} NOT IN (SELECT {self.term(inner)} FROM {source} WHERE {link})"
            )
        self.tags.add("scalar in where")
        return f"(SELECT count(*) FROM {source} WHERE {link}) {self.rng.choice(['> 0', '= 1'])}"

    def scalar_subquery(self, around: list[Relation]) -> str:
        outer, inner = self.rng.choice(around), self.topic()
        self.tags.add("scalar subquery")
        link = f"{self.term(inner)} = {self.term(outer)}"
        if self.chance(0.2):
            return (
                f"(SELECT {inner.keys[0]} FROM {inner.sql} WHERE {link}"
                f" ORDER BY {inner.keys[0]} LIMIT 1)"
            )
        return f"(SELECT {self.aggregate([inner])} FROM {inner.sql} WHERE {link})"

    # -- whole queries

    def key(self, relations: list[Relation]) -> str:
        relation = relations[0] if self.chance(0.6) else self.rng.choice(relations)
        return relation.keys[0] if self.chance(0.6) else self.scalar(relation)

    def columns(self, relations: list[Relation]) -> list[str]:
        made = [self.term(self.rng.choice(relations)) for _ in range(self.rng.choice([1, 2, 3]))]
        if self.chance(0.15):
            made.append(self.scalar_subquery(relations))
        return made

    def select(self) -> str:
        source, relations = self.joined()
        items = [self.key(relations), *self.columns(relations)]
        return f"SELECT {self.named(items)} FROM {source}"

    def named(self, items: list[str]) -> str:
        return ", ".join(f"{item} AS x{i}" for i, item in enumerate(items))

    def distinct(self) -> str:
        self.tags.add("distinct")
        return self.select().replace("SELECT ", "SELECT DISTINCT ", 1)

    def aggregate(self, relations: list[Relation]) -> str:
        relation = self.rng.choice([r for r in relations if r.numbers])
        number, text = self.rng.choice(relation.numbers), relation.keys[0]
        made = self.rng.choice(
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
        self.tags.add(made[0])
        return made[1]

    def grouped(self) -> str:
        source, relations = self.joined()
        self.tags.add("group by")
        key = self.key(relations)
        items = [key, self.aggregate(relations), self.aggregate(relations)]
        terms = [self.rng.choice(["x0", "1", key])]
        if self.chance(0.2):
            extra = f"typeof({self.scalar(relations[0])})"
            items.append(extra)
            terms.append(extra)
        having = ""
        if self.chance(0.25):
            having = f" HAVING {self.rng.choice(['count(*) > 1', 'x1 IS NOT NULL', 'x0 IS NULL'])}"
            self.tags.add("having")
        return f"SELECT {self.named(items)} FROM {source} GROUP BY {', '.join(terms)}{having}"

    def compound(self) -> str:
        operator = self.rng.choice(["UNION ALL", "UNION ALL", "UNION", "EXCEPT", "INTERSECT"])
        self.tags.add(operator.lower())
        arms = []
        for _ in range(self.rng.choice([2, 2, 3])):
            source, relations = self.joined()
            items = [self.key(relations), self.term(relations[0])]
            arms.append(f"SELECT {self.named(items)} FROM {source}")
        return f" {operator} ".join(arms)

    def full_join(self) -> str:
        left, right = self.relation(plain=True), self.relation(plain=True)
        self.tags.add("full join")
        x, y = self.rng.choice(
            [
                (left.keys[0], right.keys[0]),
                (left.scalars[0], right.scalars[1]),
                (left.keys[0], right.scalars[0]),
            ]
        )
        key = self.rng.choice([f"coalesce({x}, {y})", f"ifnull({y}, {x})", x])
        residual = f" AND {self.predicate(right)}" if self.chance(0.3) else ""
        items = [key, self.term(left), self.term(right)]
        source = f"{left.sql} FULL JOIN {right.sql} ON {x} = {y}{residual}"
        return f"SELECT {self.named(items)} FROM {source}"

    def windowed(self) -> str:
        source, relations = self.joined(plain=True)
        self.tags.add("window function")
        key = self.key(relations)
        by = f"PARTITION BY {key}" if self.chance(0.8) else ""
        number = (relations[0].numbers or ["1"])[0]
        function = self.rng.choice(
            [
                f"count(*) OVER ({by})",
                f"sum({number}) OVER ({by})",
                f"rank() OVER ({by} ORDER BY {relations[0].keys[0]})",
            ]
        )
        return f"SELECT {self.named([key, relations[0].keys[0], function])} FROM {source}"

    def limited(self) -> str:
        relation = self.topic()
        self.tags.add("limit")
        return f"SELECT {relation.keys[0]} AS x0 FROM {relation.sql} ORDER BY x0 LIMIT 3"

    def total(self) -> str:
        source, relations = self.joined()
        self.tags.add("total")
        return f"SELECT 'all' AS x0, {self.aggregate(relations)} AS x1 FROM {source}"
