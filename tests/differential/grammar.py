"""Random queries over the differential topics, each with the names of the constructs it is made of.

Every query is deterministic: whatever order SQLite reads rows in, its result is the same multiset.
So aggregates that depend on order have an ORDER BY of their own, sums are of numbers that add up
exactly, and nothing reads a column that GROUP BY leaves open.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.differential.terms import TOPICS as TOPICS
from tests.differential.terms import Input, Terms
from tests.differential.terms import Relation as Relation


@dataclass
class Generated:
    """A query and what it is made of."""

    sql: str
    tags: set[str] = field(default_factory=set)
    ordered: bool = False
    """By all its columns: the rows of a key have one order."""


class QueryMaker(Terms):
    """Makes one query after another from one source of randomness.

    `twins`: whether the data hold 7 and 7.0 side by side. Then no query in FROM may merge them,
    because which of the two stands for both is SQLite's choice.
    """

    def __init__(self, rng: random.Random, *, twins: bool, inputs: Sequence[Input] = ()) -> None:
        super().__init__(rng)
        self.twins, self.inputs = twins, list(inputs)
        self.ctes: list[str] = []
        self.x = "x"
        """How the names of output columns begin. No input has a column of such a name: GROUP BY
        would take it for that."""
        self.width = 0
        """Columns of the query at hand."""

    def query(self) -> Generated:
        """A whole query."""
        self.tags, self.ctes, self.count = set(), [], 0
        kinds = [self.select] * 10 + [self.grouped] * 6 + [self.compound] * 3
        kinds += [self.full_join, self.windowed, self.distinct, self.limited, self.total]
        kinds += [self.recursive] if self.chance(0.2) else []
        sql = self.rng.choice(kinds)()
        ordered = not self.tags & {"limit", "recursive"} and self.chance(0.08)
        if ordered:
            sql += self.order()
        prefix = f"WITH {', '.join(self.ctes)} " if self.ctes else ""
        return Generated(prefix + sql, set(self.tags), ordered)

    def order(self) -> str:
        """By every column, so that no two rows are equal but those that look alike."""
        self.tags.add("order by")
        ways = ["", " DESC", " NULLS LAST", " DESC NULLS FIRST"]
        terms = [f"{i + 1}{self.rng.choice(ways)}" for i in range(self.width)]
        return f" ORDER BY {', '.join(terms)}"

    # -- FROM

    def relation(self, *, plain: bool = False) -> Relation:
        kinds = [self.topic] * 7 + ([self.input] * 7 if self.inputs else [])
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
        key = [f"{alias}.key"]
        return Relation(f"{topic}{word}{alias}", alias, key, fields, numbers, is_topic=True)

    def input(self) -> Relation:
        """A window, or another join."""
        chosen, alias = self.rng.choice(self.inputs), self.alias()
        self.tags.add(chosen.kind)
        columns = [f'{alias}."{name}"' for name in chosen.columns]
        numbers = [f"length({columns[0]})"]
        return Relation(f'"{chosen.name}" {alias}', alias, columns[:1], columns, numbers)

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
            on = self.equality(old, new)
            if self.chance(0.25):
                on += f" AND {self.predicate(new)}"
                self.tags.add("residual")
            if self.chance(0.12):
                on += f" AND {self.rng.choice(old.keys)} <= {self.rng.choice(new.keys)}"
                self.tags.add("non-equi")
            word = self.operator(is_last=number == size - 1)
            if word in (", ", " CROSS JOIN "):
                sql += word + new.sql
                where.append(on)
            elif number == 1 and old.is_topic and new.is_topic and self.chance(0.06):
                sql += f"{word}{new.sql} USING (key)"
                self.tags.add("using")
            else:
                sql += f"{word}{new.sql} ON {on}"
            relations.append(new)
        topics = [relation.sql.split()[0] for relation in relations if relation.is_topic]
        if len(set(topics)) < len(topics):
            self.tags.add("self join")
        self.tags.add(f"{size}-way")
        if self.chance(0.12):
            sql += self.lateral(relations)
        if self.chance(0.25):
            where.append(self.predicate(self.rng.choice(relations)))
        if self.chance(0.3):
            where.append(self.subquery_predicate(relations))
        return sql + (f" WHERE {' AND '.join(where)}" if where else ""), relations

    def operator(self, *, is_last: bool) -> str:
        """A join operator; the optional left sides of RIGHT and FULL JOIN come last."""
        kind = self.rng.random()
        if is_last and 0.75 <= kind < 0.86:
            return self.pick([("right join", " RIGHT JOIN "), ("full join", " FULL JOIN ")])
        if kind < 0.4:
            return self.rng.choice([" JOIN ", " INNER JOIN "])
        if kind < 0.75:
            self.tags.add("left join")
            return self.rng.choice([" LEFT JOIN ", " LEFT JOIN ", " LEFT OUTER JOIN "])
        return self.pick([("comma join", ", "), ("cross join", " CROSS JOIN ")])

    def lateral(self, relations: list[Relation]) -> str:
        for relation in relations:
            if relation.is_topic:
                alias = self.alias()
                function = self.rng.choice(["json_each", "json_each", "json_tree"])
                self.tags.add(function)
                call = f"{function}({relation.alias}.payload, '$.tags') {alias}"
                relations.append(Relation("", alias, [f"{alias}.value"], [f"{alias}.value"], []))
                if self.chance(0.3):
                    return f" LEFT JOIN {call} ON 1"
                sql = self.rng.choice([f" CROSS JOIN {call}", f" JOIN {call}"])
                if self.chance(0.4):
                    new = self.topic()
                    sql += f" JOIN {new.sql} ON {self.term(new)} = {alias}.value"
                    relations.append(new)
                    self.tags.add("join on json values")
                return sql
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
            distinct = "DISTINCT " if not self.twins and self.chance(0.1) else ""
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
        if self.chance(0.15):
            self.tags.add("exists as value")
            return f"EXISTS (SELECT 1 FROM {inner.sql} WHERE {self.equality(inner, outer)})"
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
        topics = [relation for relation in relations if relation.is_topic]
        if topics and self.chance(0.15):
            text = self.scalar(self.rng.choice(topics))
            made.append(self.pick([("typeof", f"typeof({text})"), ("quote", f"quote({text})")]))
        return made

    def select(self) -> str:
        source, relations = self.joined()
        items = [self.key(relations), *self.columns(relations)]
        return f"SELECT {self.named(items)} FROM {source}"

    def named(self, items: list[str]) -> str:
        self.width = len(items)
        return ", ".join(f"{item} AS {self.x}{i}" for i, item in enumerate(items))

    def distinct(self) -> str:
        self.tags.add("distinct")
        return self.select().replace("SELECT ", "SELECT DISTINCT ", 1)

    def grouped(self) -> str:
        source, relations = self.joined()
        self.tags.add("group by")
        key = self.key(relations)
        items = [key, self.aggregate(relations), self.aggregate(relations)]
        terms = [self.rng.choice([f"{self.x}0", "1", key])]
        if self.chance(0.2):
            extra = f"typeof({self.scalar(relations[0])})"
            items.append(extra)
            terms.append(extra)
        having = ""
        if self.chance(0.25):
            kinds = ["count(*) > 1", f"{self.x}1 IS NOT NULL", f"{self.x}0 IS NULL"]
            having = f" HAVING {self.rng.choice(kinds)}"
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
        if self.chance(0.3):
            self.tags.add("random()")
            return (
                f"SELECT {self.named(relation.keys)} FROM {relation.sql} WHERE random() IS NOT NULL"
            )
        self.tags.add("limit")
        return f"SELECT {self.named(relation.keys)} FROM {relation.sql} ORDER BY 1 LIMIT 3"

    def total(self) -> str:
        source, relations = self.joined()
        self.tags.add("no group by")
        items = ["'all'", self.aggregate(relations)]
        return f"SELECT {self.named(items)} FROM {source}"

    def recursive(self) -> str:
        """What can be reached from one key."""
        self.tags.add("recursive")
        step = self.topic()
        reached = f"SELECT {step.keys[0]} FROM {step.sql} JOIN r ON {self.term(step)} = r.x0"
        self.ctes.insert(0, f"r(x0) AS (SELECT 'u1' UNION {reached})")
        return f"SELECT {self.named(['x0'])} FROM r"
