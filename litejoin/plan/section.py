"""Typed reads from a checked document: one mapping of it, with its place.

Used by the `compile_*` modules. The document satisfies the schema, so a read neither judges nor
fails; an absent optional key reads as None or as empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litejoin.config.document import Document
from litejoin.config.values import parse_address, parse_duration_ms, parse_size_bytes
from litejoin.plan.nodes import Address, Place


class Section:
    """A mapping of the document, at `pointer`."""

    def __init__(self, document: Document, pointer: str = "") -> None:
        self.document = document
        self.pointer = pointer
        value = document.get(pointer) if pointer else document.value
        self.value: dict[str, Any] = value if isinstance(value, dict) else {}

    def at(self, key: str) -> str:
        """The pointer of a key."""
        return f"{self.pointer}/{key.replace('~', '~0').replace('/', '~1')}"

    def section(self, key: str) -> Section:
        """The mapping of a key; an empty one when it is absent."""
        return Section(self.document, self.at(key))

    def sections(self, key: str) -> list[Section]:
        """The mappings in the list of a key."""
        count = len(self.value.get(key, ()))
        return [Section(self.document, f"{self.at(key)}/{number}") for number in range(count)]

    def has(self, key: str) -> bool:
        """True when the config itself says it, not a default."""
        return self.document.has(self.at(key))

    def place(self, key: str | None = None) -> Place:
        """Where the value of a key stands, or this mapping."""
        return self.document.place(self.pointer if key is None else self.at(key))

    def text(self, key: str) -> str:
        """A text. A secret loses its mask: wrap it again where it must not be shown."""
        return str(self.value.get(key, ""))

    def maybe_text(self, key: str) -> str | None:
        """A text, None when absent."""
        return str(self.value[key]) if key in self.value else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, or one text as a list of one."""
        value = self.value.get(key, ())
        return tuple(str(each) for each in ([value] if isinstance(value, str) else value))

    def columns(self, key: str, output: tuple[str, ...]) -> tuple[str, ...]:
        """A list of columns, as the query's output spells them: SQL knows no upper and lower."""
        spelled = {column.lower(): column for column in reversed(output)}
        return tuple(
            name if name in output else spelled.get(name.lower(), name) for name in self.texts(key)
        )

    def integer(self, key: str) -> int:
        """A whole number."""
        return int(self.value[key])

    def number(self, key: str) -> float:
        """A number."""
        return float(self.value[key])

    def flag(self, key: str) -> bool:
        """A boolean; absent is False."""
        return bool(self.value.get(key, False))

    def duration_ms(self, key: str) -> int:
        """A duration in milliseconds."""
        return parse_duration_ms(self.text(key))

    def maybe_duration_ms(self, key: str) -> int | None:
        """A duration in milliseconds, None when absent."""
        return self.duration_ms(key) if key in self.value else None

    def size_bytes(self, key: str) -> int:
        """A size in bytes; a bare number is bytes."""
        value = self.value[key]
        return value if isinstance(value, int) else parse_size_bytes(str(value))

    def path(self, key: str) -> Path:
        """A path as written; relative ones are relative to the working directory."""
        return Path(self.text(key))

    def maybe_path(self, key: str) -> Path | None:
        """A path, None when absent."""
        return self.path(key) if key in self.value else None

    def address(self, key: str) -> Address:
        """A listening address that knows whether the config itself names it."""
        address = parse_address(self.text(key))
        return Address(address.host, address.port, explicit=self.has(key))
