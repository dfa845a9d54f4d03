"""What the probes of `validate --connect` share: their outcome, and how they end otherwise."""

from typing import Literal, NamedTuple

TIMEOUT_SECONDS = 5.0
"""For one connection or one answer; a probe that takes longer is told as failed."""

Level = Literal["ok", "warn", "fail"]


class Probe(NamedTuple):
    """What came out about one thing that a config names."""

    level: Level
    subject: str
    text: str


class Problem(Exception):
    """A probe that ends otherwise than well."""

    def __init__(self, level: Level, text: str) -> None:
        super().__init__(text)
        self.level, self.text = level, text
