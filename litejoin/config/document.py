"""A checked config: values with defaults filled in, and where each of them stands in the file.

Made by `check.load_config`; the plan compiler reads it and makes its own findings with `finding`.
Read only. Pointers are JSON pointers into `value` (`/joins/0/query`).
"""

import re
from collections.abc import Iterable
from typing import Any

from litejoin.config.codes import CODES
from litejoin.config.diagnostics import (
    Diagnostic,
    Diagnostics,
    extent,
    find,
    path_of,
    pointer_of,
)
from litejoin.config.ignores import Ignores
from litejoin.config.nodes import Node, Piece, Scalar, Sequence
from litejoin.config.schema import Schema, branches, child, discriminator, marks, resolved
from litejoin.plan.nodes import Place, Unsupported

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Document:
    """What a config says.

    `value` satisfies the schema. `complete` is False when parts with errors were left out.
    """

    def __init__(
        self,
        *,
        name: str,
        file: str,
        root: Node,
        value: dict[str, Any],
        schema: Schema,
        removed: Iterable[tuple[str | int, ...]],
        secrets: frozenset[str],
        ignores: Ignores,
        complete: bool,
        fed_topics: list[str] | None,
        result_names: list[str],
    ) -> None:
        self.name = name
        self.file = file
        self.value = value
        self.secrets = secrets
        """Texts that must not be shown: what came from the environment or a file, and secrets."""
        self.complete = complete
        self.fed_topics = fed_topics
        """What the sources feed; None when that cannot be told, or when one takes any topic."""
        self.result_names = result_names
        """Joins and windows, those left out as well; "" for each whose name cannot be told."""
        self._root = root
        self._schema = schema
        self._ignores = ignores
        self._removed = {tuple(map(str, path)) for path in removed}

    def get(self, pointer: str, default: Any = None) -> Any:
        """The value at a pointer, or `default`."""
        value: Any = self.value
        for part in path_of(pointer):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return default
        return value

    def has(self, pointer: str) -> bool:
        """True when the value is written in the config, False when it is a default or absent."""
        return find(self._root, self._file_path(pointer)) is not None

    def is_unknown(self, pointer: str) -> bool:
        """True when an unset variable left a stand-in there, which must not be judged."""
        node = find(self._root, self._file_path(pointer))
        return isinstance(node, Scalar) and node.unknown

    def place(self, pointer: str) -> Place:
        """Where a value starts; for one that is not written, where the nearest part around it does.

        Lines and columns of a `--set` option are those within its argument.
        """
        return self._node(pointer).place

    def place_in(self, pointer: str, offset: int) -> Place:
        """Where character `offset` of a text value stands in the file."""
        node = self._node(pointer)
        if isinstance(node, Scalar):
            return node.source.place(node.index_of(offset))
        return node.place

    def shown(self, pointer: str) -> str | None:
        """A scalar as written, `${VAR}` not expanded: safe to show. None when not written."""
        node = find(self._root, self._file_path(pointer))
        return node.written if isinstance(node, Scalar) else None

    def with_variables(self, pointer: str) -> tuple[str, bool]:
        """A text in which `${NAME}` stays for another program to expand, and whether there is one.

        Every other expansion is done: a default that applies, `${file:..}`, `$${`.
        """
        node = find(self._root, self._file_path(pointer))
        if not isinstance(node, Scalar) or not node.pieces:
            return str(self.get(pointer)), False
        parts = [_with_name(node.written, piece) for piece in node.pieces]
        return "".join(parts), any(p.startswith("${") for p in parts)

    def finding(
        self,
        code: str,
        pointer: str,
        message: str,
        *,
        hint: str = "",
        offset: int | None = None,
        length: int = 1,
    ) -> Diagnostic:
        """A finding about the value at a pointer, or about `length` characters at its `offset`."""
        node = self._node(pointer)
        index = node.start
        if offset is not None and isinstance(node, Scalar):
            index = node.index_of(offset)
            length = max(1, node.index_of(offset + length - 1) - index + 1)
        elif length == 1:
            length = extent(node)
        place = node.source.place(index)
        where = pointer_of(self._file_path(pointer))
        return Diagnostic(
            node.source.name, place.line, place.column, code, CODES[code].level,
            message, hint, where, length,
        )  # fmt: skip

    def visible(self, findings: Iterable[Diagnostic]) -> list[Diagnostic]:
        """Findings without those that inline comments hide, sorted, none twice."""
        kept = Diagnostics()
        for finding in findings:
            node = find(self._root, path_of(finding.pointer))
            is_block = isinstance(node, Scalar) and node.style in ("|", ">")
            block_line = node.place.line if is_block and node is not None else None
            if not self._ignores.hides(finding, block_line):
                kept.add(finding)
        return kept.sorted()

    def unsupported(self) -> list[Unsupported]:
        """Features in use that `run` refuses in this version, in the order of the schema."""
        return [
            Unsupported(feature, self.place(pointer)) for feature, pointer in self.features_off()
        ]

    def features_off(self) -> list[tuple[str, str]]:
        """The same as `unsupported`, with pointers."""
        found: list[tuple[str, str]] = []
        _collect_off(self.value, self._schema, (), found)
        return found

    def _file_path(self, pointer: str) -> list[str]:
        """The path in the file: list items with errors were left out of `value`."""
        path: list[str] = []
        for part in path_of(pointer):
            if self._removed and part.isdecimal():
                part = str(self._file_index(tuple(path), int(part)))
            path.append(part)
        return path

    def _file_index(self, above: tuple[str, ...], index: int) -> int:
        if not isinstance(find(self._root, above), Sequence):
            return index
        at = 0
        while True:
            if (*above, str(at)) not in self._removed:
                if index == 0:
                    return at
                index -= 1
            at += 1

    def _node(self, pointer: str) -> Node:
        path = self._file_path(pointer)
        while path:
            node = find(self._root, path)
            if node is not None:
                return node
            path = path[:-1]
        return self._root


def _collect_off(
    value: Any,
    schema: Schema,
    path: tuple[str | int, ...],
    found: list[tuple[str, str]],
) -> None:
    """Walk value and schema together; a marked part that is in use is one entry."""
    schema = resolved(schema)
    mark = marks(schema)
    if mark.get("run") is False and not _is_off(value, schema, mark):
        found.append((mark["feature"], pointer_of(path)))
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _collect_off(item, schema.get("items", {}), (*path, index), found)
    if not isinstance(value, dict):
        return
    key = discriminator(schema)
    if key is not None:
        schema = branches(schema, key)[value[key]]
        branch = marks(schema)
        if branch.get("run") is False:
            found.append((branch["feature"], pointer_of(path)))
            return
    for name, each in value.items():
        _collect_off(each, child(schema, name) or {}, (*path, name), found)


def _is_off(value: Any, schema: Schema, mark: Any) -> bool:
    off = mark.get("off")
    if off and isinstance(value, dict):
        return all(value.get(key) == wanted for key, wanted in off.items())
    if "off" in mark:
        return bool(value == off)
    return "default" in schema and value == schema["default"]


def _with_name(written: str, piece: Piece) -> str:
    inner = written[piece.start + 2 : piece.start + piece.length - 1]
    name, _, default = inner.partition(":-")
    if piece.literal or piece.value == default or not _VARIABLE.fullmatch(name):
        return piece.value
    return f"${{{name}}}"
