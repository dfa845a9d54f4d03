"""Random histories of orders, users and products, as nasty as real data.

A history is a function of its seed: the same seed gives the same batches. Keys and values hold what
breaks joins: '5' beside 5 and 5.0 and "05", missing paths, null, true, nested objects, unicode,
quotes, the same key twice in a batch, rewrites that change nothing, deletes of what is not there.
Numbers that get summed are multiples of 0.25, so that sums do not depend on the order of the rows.
"""

import os
import random
from dataclasses import dataclass
from typing import Any

TOPICS = ("orders", "users", "products")

USER_KEYS = (
    "u1", "u2", "u3", "5", "05", "5.0", "1", "ü", "u\U0001f600", "O'Hara", 'say "hi"', "a:b,c", " ",
    "null",
)  # fmt: skip
ORDER_KEYS = tuple(f"o{i}" for i in range(24)) + ("Ω", "o'1", "7")
PRODUCT_KEYS = ("p1", "p2", "p3", "9")

_MISSING = object()
_USER_IDS: tuple[Any, ...] = (
    *USER_KEYS, 5, 5.0, 1, True, None, _MISSING, {"id": 5}, ["u1"], 2**63, "", "nobody",
)  # fmt: skip
_REGIONS = ("north", "North", "süd", "", None, 7, "7", _MISSING)
_AMOUNTS = (0, 1, 2.5, 10, 99.75, 100, 100.25, -3, "12", None, _MISSING, 10.0)
_TAGS: tuple[Any, ...] = (
    [],
    ["a"],
    ["a", "b"],
    ["b", "a", "a"],
    [1, None, "x"],
    "flat",
    None,
    _MISSING,
    {"k": "v"},
)
_STATUS = ("open", "closed", "pending", None, _MISSING)


@dataclass(frozen=True)
class Message:
    """One change of a topic, for /ingest and the oracle alike; payload None deletes."""

    topic: str
    key: str
    payload: Any
    as_text: bool = False


class History:
    """Batches of messages. `seed` is printed by whoever fails."""

    def __init__(self, seed: int, *, deletes: float = 0.15) -> None:
        self.seed = seed
        self._random = random.Random(seed)
        self._deletes = deletes
        self._last: dict[tuple[str, str], Any] = {}

    def batch(self, size: int) -> list[Message]:
        return [self._message() for _ in range(size)]

    def seeding(self) -> list[Message]:
        """A first batch that gives every user and product a row, so that joins find something."""
        return [self._put("users", key, self._user()) for key in USER_KEYS] + [
            self._put("products", key, self._product()) for key in PRODUCT_KEYS
        ]

    def keys(self) -> list[tuple[str, str]]:
        """Every (topic, key) named so far."""
        return list(self._last)

    def _message(self) -> Message:
        roll = self._random.random()
        topic = self._random.choices(TOPICS, (6, 3, 1))[0]
        key = self._random.choice(
            {"orders": ORDER_KEYS, "users": USER_KEYS, "products": PRODUCT_KEYS}[topic]
        )
        if roll < self._deletes:
            return self._put(topic, key, None)
        if roll < self._deletes + 0.1 and (topic, key) in self._last:
            return self._put(topic, key, self._last[topic, key])
        make = {"orders": self._order, "users": self._user, "products": self._product}[topic]
        return self._put(topic, key, make())

    def _put(self, topic: str, key: str, payload: Any) -> Message:
        self._last[topic, key] = payload
        return Message(topic, key, payload, as_text=self._random.random() < 0.5)

    def _order(self) -> dict[str, Any]:
        return self._object(
            user_id=_USER_IDS,
            product_id=(*PRODUCT_KEYS, 9, None, _MISSING),
            amount=_AMOUNTS,
            tags=_TAGS,
            status=_STATUS,
        )

    def _user(self) -> dict[str, Any]:
        return self._object(
            name=("Ada", "Bob", "ßen", "\U0001f408", "", None, _MISSING),
            region=_REGIONS,
            vip=(True, False, _MISSING),
        )

    def _product(self) -> dict[str, Any]:
        return self._object(title=("Tea", "Kaffee ☕", None, _MISSING), price=(1, 2.5, _MISSING))

    def _object(self, **choices: tuple[Any, ...]) -> dict[str, Any]:
        drawn = {name: self._random.choice(values) for name, values in choices.items()}
        return {name: value for name, value in drawn.items() if value is not _MISSING}


def seeds(default: int) -> list[int]:
    """The seeds to run: LITEJOIN_TEST_SEED=17 replays one, LITEJOIN_TEST_SEEDS=100 runs more."""
    if "LITEJOIN_TEST_SEED" in os.environ:
        return [int(os.environ["LITEJOIN_TEST_SEED"])]
    return list(range(1, 1 + int(os.environ.get("LITEJOIN_TEST_SEEDS", default))))
