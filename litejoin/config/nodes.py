"""The tree a config file becomes: mappings, sequences and scalars that know where they stand.

Made by `load`, filled in by `interpolate`, read by everything after. Positions are character
indexes into the text of a `Source`; lines and columns are reckoned only when a finding needs them.
Nothing here reads files or judges content.
"""

import re
from bisect import bisect_right
from dataclasses import field
from functools import cached_property

from litejoin.config.align import align
from litejoin.frozen import dataclass
from litejoin.plan.nodes import Place

_LINE_END = re.compile(r"\r\n|\r|\n")


class Source:
    """One text with the name that findings show: a file, `<stdin>` or a `--set` option."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    @cached_property
    def _starts(self) -> list[int]:
        """Where lines start, as editors count them: after LF, CRLF or CR and nothing else."""
        return [0, *(match.end() for match in _LINE_END.finditer(self.text))]

    def place(self, index: int) -> Place:
        """Line and column (from 1) of a character index; one past the end is allowed."""
        line = bisect_right(self._starts, index)
        return Place(line, index - self._starts[line - 1] + 1)

    def index(self, line: int, column: int) -> int:
        """Character index of a line and column (from 1) that `place` gave."""
        return self._starts[line - 1] + column - 1

    def line(self, number: int) -> str:
        """The text of a line (from 1) without its end; "" when there is none."""
        if not 1 <= number <= len(self._starts):
            return ""
        ends = [*self._starts[number : number + 1], len(self.text)]
        return self.text[self._starts[number - 1] : ends[0]].rstrip("\r\n")


@dataclass(slots=True, eq=False)
class Node:
    """Anything with a place: `start` and `end` are indexes into the text of `source`."""

    source: Source
    start: int
    end: int

    @property
    def place(self) -> Place:
        """Where the node starts."""
        return self.source.place(self.start)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an expanded scalar: `length` characters from `start` in the text as written.

    `literal` pieces stand for themselves, others (`${VAR}`) became `value`.
    """

    start: int
    length: int
    value: str
    literal: bool


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """A scalar. `written` is its text after YAML's unquoting, `text` after `${..}` expansion."""

    written: str
    plain: bool
    """Not quoted and not a block: may mean a number, a boolean or nothing."""
    style: str | None
    """As YAML's events tell it: None or "" plain, ', ", | or >."""
    text: str = ""
    pieces: tuple[Piece, ...] = ()
    """Empty when nothing was expanded."""
    secrets: tuple[str, ...] = ()
    """What came from the environment or a file."""
    indexes: list[int] | None = None
    """Kept from the first call of `index_of`: many findings may point into one scalar."""
    unknown: bool = False
    """An expansion failed: the value is a stand-in that must not be judged."""

    def __post_init__(self) -> None:
        self.text = self.text or self.written

    def index_of(self, offset: int) -> int:
        """Index in the source of character `offset` of `text`."""
        return self.index_of_written(self._written_offset(max(0, min(offset, len(self.text)))))

    def index_of_written(self, offset: int) -> int:
        """Index in the source of character `offset` of `written`."""
        begin = self.start + (1 if self.style in ("'", '"') else 0)
        if self.source.text.startswith(self.written, begin):
            return begin + min(offset, len(self.written))  # on one line, nothing escaped
        if self.indexes is None:
            text = self.source.text
            self.indexes = align(text, self.start, self.end, self.written, self.style)
        return self.indexes[min(offset, len(self.indexes) - 1)]

    def _written_offset(self, offset: int) -> int:
        passed = 0
        for piece in self.pieces:
            if offset < passed + len(piece.value):
                return piece.start + (offset - passed if piece.literal else 0)
            passed += len(piece.value)
        return len(self.written) if self.pieces else offset


@dataclass(slots=True, eq=False)
class Entry:
    """One key of a mapping with its value."""

    key: Scalar
    value: Node


@dataclass(slots=True, eq=False)
class Mapping(Node):
    """A mapping; keys are texts as written (`on` and `1` are texts, too)."""

    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Sequence(Node):
    """A sequence."""

    items: list[Node] = field(default_factory=list)
