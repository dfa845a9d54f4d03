"""Findings about a config: what `validate` prints and every stage of the compiler adds to.

A finding is never raised: stages add them to a `Diagnostics` and go on, so that one run shows all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from litejoin.config.codes import CODES
from litejoin.config.nodes import Mapping, Node, Scalar, Sequence, Source
from litejoin.config.text import printable

MAX_FINDINGS = 1_000
"""A file with more is not a config with mistakes; the last finding says that there are more."""

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One finding. Lines and columns from 1; `length` is how many characters the caret marks.

    `pointer` is the JSON pointer of the value it is about, "" for the whole file.
    """

    file: str
    line: int
    column: int
    code: str
    level: Level
    message: str
    hint: str = ""
    pointer: str = ""
    length: int = 1


class Diagnostics:
    """Collects findings of one config."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str, str], Diagnostic] = {}
        self._has_more = False

    def add(self, finding: Diagnostic) -> None:
        """Add a finding unless the same one is there."""
        if not (finding.message.isprintable() and finding.hint.isprintable()):
            message, hint = printable(finding.message), printable(finding.hint)
            finding = replace(finding, message=message, hint=hint)
        identity = (finding.file, finding.line, finding.column, finding.code, finding.message)
        if identity in self._found:
            return
        if len(self._found) >= MAX_FINDINGS:
            self._has_more = True
            return
        self._found[identity] = finding

    def extend(self, findings: Iterable[Diagnostic]) -> None:
        """Add several."""
        for finding in findings:
            self.add(finding)

    def at(
        self,
        source: Source,
        index: int,
        code: str,
        message: str,
        *,
        hint: str = "",
        pointer: str = "",
        length: int = 1,
    ) -> None:
        """Add a finding about the character `index` of a source."""
        if self.is_full:
            self._has_more = True
            return
        place = source.place(index)
        self.add(
            Diagnostic(
                source.name,
                place.line,
                place.column,
                code,
                CODES[code].level,
                message,
                hint,
                pointer,
                max(1, length),
            )
        )

    def node(
        self, node: Node, code: str, message: str, *, hint: str = "", pointer: str = ""
    ) -> None:
        """Add a finding about a node."""
        length = extent(node)
        self.at(node.source, node.start, code, message, hint=hint, pointer=pointer, length=length)

    @property
    def is_full(self) -> bool:
        """True when further findings are only counted: no need to think about hints."""
        return len(self._found) >= MAX_FINDINGS

    @property
    def has_errors(self) -> bool:
        """True when anything found is an error."""
        return any(finding.level == "error" for finding in self._found.values())

    def sorted(self) -> list[Diagnostic]:
        """All findings by file and position."""
        found = sorted(self._found.values())
        if self._has_more:
            last = found[-1]
            message = f"more than {MAX_FINDINGS:,} findings"
            found.append(Diagnostic(last.file, last.line, last.column, "LJ128", "error", message))
        return found


def extent(node: Node) -> int:
    """How many characters of the node's first line a caret should mark."""
    if isinstance(node, Scalar) and node.style not in ("|", ">"):
        line_end = node.source.text.find("\n", node.start, node.end)
        return max(1, (node.end if line_end < 0 else line_end) - node.start)
    if isinstance(node, Mapping) and node.entries:
        key = next(iter(node.entries.values())).key
        return key.end - key.start if key.start == node.start else 1
    return 1


def pointer_of(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def path_of(pointer: str) -> list[str]:
    """The parts of a JSON pointer, unescaped; indexes stay text."""
    if not pointer:
        return []
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def find(root: Node, path: Iterable[str | int]) -> Node | None:
    """The node at a path, or None when the file has none there."""
    node: Node | None = root
    for part in path:
        if isinstance(node, Mapping) and str(part) in node.entries:
            node = node.entries[str(part)].value
        elif isinstance(node, Sequence) and str(part).isdecimal() and int(part) < len(node.items):
            node = node.items[int(part)]
        else:
            return None
    return node


def json_object(finding: Diagnostic) -> dict[str, object]:
    """One finding as `validate --format json` shows it."""
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "code": finding.code,
        "level": finding.level,
        "message": finding.message,
        "hint": finding.hint,
        "pointer": finding.pointer,
    }
