"""The record diff, and the set diff of whole polls, beside parsing with the fastest JSON parser.

    python -m bench.micro.record_diff [--records N] [--rounds N]

CPU microseconds a record of about 250 bytes. `pairs`: two records of one key, by kind: the same
bytes, the same values in other bytes (order of members, escapes, spaces), one field of ten changed;
`changes` as the product does it, its Python twin, and orjson parsing both and comparing the
objects, which finds no paths and takes 2^53 + 1 for 2^53. `polls`: N records in one body against
the poll before, `Snapshot` beside orjson with a dict of the records by key. Each is first checked
against the twin, or for polls against what was changed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import orjson

from bench import report
from litejoin._ext import diff, gjson
from tests.reference import diff as twin

Record = dict[str, object]
Pair = tuple[bytes, bytes]
Work = Callable[[bytes, bytes], object]


def record(n: int) -> Record:
    return {
        "id": n, "status": "open", "amount": n * 1.25, "currency": "EUR",
        "customer": f"cust-{n % 997}", "updated_at": "2026-11-23T12:00:00Z",
        "note": "Grüße, bitte klingeln",
        "address": {"street": f"Main Street {n % 120}", "city": "Oslo", "zip": "0150"},
        "tags": ["new", "web"], "paid": False,
    }  # fmt: skip


def written(value: object, *, other: bool = False) -> bytes:
    """JSON text; `other`: the same value in other bytes."""
    if not other:
        return json.dumps(value, ensure_ascii=False).encode()
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return text.replace('"paid":false', '"paid" : false').encode()


def kinds(count: int) -> dict[str, list[Pair]]:
    """Pairs of records by what lies between them."""
    records = [record(n) for n in range(count)]
    return {
        "same_bytes": [(written(r), written(r)) for r in records],
        "other_bytes": [(written(r), written(r, other=True)) for r in records],
        "one_change": [(written(r), written(r | {"status": "paid"})) for r in records],
    }


def parse_both(a: bytes, b: bytes) -> bool:
    return bool(orjson.loads(a) == orjson.loads(b))


def cpu_us(work: Work, pairs: Sequence[Pair]) -> float:
    began = time.process_time_ns()
    for a, b in pairs:
        work(a, b)
    return (time.process_time_ns() - began) / 1e3 / len(pairs)


def check_pairs(pairs: list[Pair], *, equal: bool) -> None:
    for a, b in pairs[:200]:
        assert diff.changes(a, b) == twin.changes(a, b)
    assert all((diff.changes(a, b) is None) is equal for a, b in pairs)
    assert all(parse_both(a, b) is equal for a, b in pairs)


def measure_pairs(name: str, pairs: list[Pair], rounds: int) -> dict[str, float]:
    check_pairs(pairs, equal=name != "one_change")
    works: dict[str, Work] = {"native": diff.changes, "orjson": parse_both}
    found: dict[str, list[float]] = {each: [] for each in works}
    for _ in range(rounds):
        for each, work in works.items():
            found[each].append(cpu_us(work, pairs))
    times = {f"{each}_us": round(statistics.median(spent), 3) for each, spent in found.items()}
    return {**times, "python_us": round(cpu_us(twin.changes, pairs[:500]), 1)}


class ByHand:
    """A poll by hand: parse all, look each record up, compare."""

    def __init__(self) -> None:
        self.known: dict[object, object] = {}

    def poll(self, body: bytes) -> tuple[int, int, int]:
        """Created, updated, gone."""
        records = {each["id"]: each for each in orjson.loads(body)}
        created = sum(key not in self.known for key in records)
        updated = sum(self.known.get(key, each) != each for key, each in records.items())
        gone = sum(key not in records for key in self.known)
        self.known = records
        return created, updated, gone


class Native:
    """A poll as the api source does it, its rows taken at once."""

    def __init__(self) -> None:
        self.snapshot = diff.Snapshot(
            gjson.compile_path("@this").program, [gjson.compile_path("id").program], seed=1
        )

    def poll(self, body: bytes) -> tuple[int, int, int]:
        """Created, updated, gone."""
        self.snapshot.begin()
        page = self.snapshot.compare(body)
        self.snapshot.apply(page, 0, len(page))
        gone = self.snapshot.missing()[0]
        self.snapshot.forget(self.snapshot.missing_keys(False))
        self.snapshot.finish()
        return page.created, page.updated, gone


def bodies(count: int) -> dict[str, tuple[bytes, tuple[int, int, int]]]:
    """Polls in order, each with what it must find."""
    records = [record(n) for n in range(count)]
    hundredth = count // 100
    changed = [r | {"status": "paid"} if n % 100 == 0 else r for n, r in enumerate(records)]
    return {
        "first": (written(records), (count, 0, 0)),
        "same_bytes": (written(records), (0, 0, 0)),
        "other_bytes": (written(records, other=True), (0, 0, 0)),
        "one_percent_changed": (written(changed), (0, len(range(0, count, 100)), 0)),
        "one_percent_gone": (written(changed[hundredth:]), (0, 0, hundredth)),
    }


def measure_polls(count: int, rounds: int) -> dict[str, dict[str, float]]:
    asked = bodies(count)
    found: dict[str, dict[str, list[float]]] = {
        name: {"native": [], "orjson": []} for name in asked
    }
    for _ in range(rounds):
        for kind, poller in (("native", Native()), ("orjson", ByHand())):
            for name, (body, expected) in asked.items():
                began = time.process_time_ns()
                outcome = poller.poll(body)
                found[name][kind].append((time.process_time_ns() - began) / 1e3 / count)
                assert outcome == expected, (name, kind, outcome)
    return {
        name: {f"{kind}_us": round(statistics.median(each), 3) for kind, each in by_kind.items()}
        for name, by_kind in found.items()
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    pairs = {
        name: measure_pairs(name, each, options.rounds)
        for name, each in kinds(options.records).items()
    }
    polls = measure_polls(options.records, options.rounds)
    report.write(
        "diff",
        {
            "records": options.records,
            "record_bytes": len(written(record(1000))),
            "pairs_us_per_record": pairs,
            "polls_us_per_record": polls,
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:])
