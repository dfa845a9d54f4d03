"""Compiles the text of a gjson path to the ops that _ext/gjson_path.h evaluates.

Called by `litejoin._ext.gjson` alone, once per path of a config. Knows the syntax and nothing of
JSON documents; numbers of kinds and operators are those of the header.
"""

import re
from dataclasses import dataclass

from litejoin.errors import PathError

NAME, WILD, EACH, QUERY, QUERY_ALL, PIPE, MODIFIER = range(1, 8)
OPERATORS = {"=": 1, "==": 1, "!=": 2, "<": 3, "<=": 4, ">": 5, ">=": 6, "%": 7, "!%": 8}
MODIFIERS = {"this": 1, "reverse": 2, "keys": 3, "values": 4, "flatten": 5, "fromstr": 6}
UNSUPPORTED = ("pretty", "ugly", "valid", "join", "tostr", "group", "dig", "json", "search")
JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
INDEX_DIGITS = 9

Op = tuple[int, int, int, int, int, int, int, int, int]


@dataclass
class Part:
    """One op before its texts and its left side have a place."""

    kind: int
    operator: int = 0
    text: str = ""
    value: str = ""
    index: int = -1
    left: list["Part"] | None = None


def compile_ops(path: str) -> tuple[list[Op], int, bytes]:
    """The ops, how many of them are the path itself, and the texts. Raises PathError."""
    parts = _Parser(path).path(0, len(path))
    texts = bytearray()
    ops: list[Op] = []
    _place(parts, ops, texts)
    return ops, len(parts), bytes(texts)


def _place(parts: list[Part], ops: list[Op], texts: bytearray) -> int:
    """Append a block of ops, then the blocks of its left sides; the index of the block."""
    start = len(ops)
    ops.extend((0,) * 9 for _ in parts)
    for i, part in enumerate(parts):
        text, value = part.text.encode(), part.value.encode()
        at = len(texts)
        texts += text + value
        left = _place(part.left, ops, texts) if part.left else 0
        ops[start + i] = (
            part.kind,
            part.operator,
            at,
            len(text),
            left,
            len(part.left or ()),
            at + len(text),
            len(value),
            part.index,
        )
    return start


class _Parser:
    """Reads one path; positions are characters of the whole text, for errors."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.fault("lone surrogate", error.start) from None

    def fault(self, reason: str, at: int, hint: str = "") -> PathError:
        return PathError(f"path {self.text!r}: {reason} at {at}", offset=at, hint=hint)

    def path(self, at: int, end: int) -> list[Part]:
        """The parts of text[at:end], which is not empty."""
        parts: list[Part] = []
        if self.text[at:end] == "$" or self.text.startswith("$.", at, end):
            hint = "gjson paths start with a field's name; leave out `$.`"
            raise self.fault("`$` is not the root here", at, hint)
        while True:
            part, at = self.part(at, end)
            parts.append(part)
            if at == end:
                return parts
            if self.text[at] == "|":
                parts.append(Part(PIPE))
            elif self.text[at] != ".":
                raise self.fault(f"unexpected {self.text[at]!r}", at)
            at += 1

    def part(self, at: int, end: int) -> tuple[Part, int]:
        first = self.text[at : at + 1] if at < end else ""
        if first in ("", ".", "|"):
            raise self.fault("empty name", at, "escape a dot that is part of a name as \\.")
        if first in "[{!":
            raise self.fault(f"`{first}` (multipaths and literals) is not supported", at)
        if first == "@":
            modifier = self.modifier(at, end)
            if modifier:
                return modifier
        if first == "#":
            if at + 1 < end and self.text[at + 1] in "([":
                return self.query(at, end)
            if at + 1 == end or self.text[at + 1] in ".|":
                return Part(EACH, text="#"), at + 1
        return self.name(at, end)

    def modifier(self, at: int, end: int) -> tuple[Part, int] | None:
        """A known modifier; any other `@word` is a name, as `@type` in JSON-LD."""
        found = re.compile(r"@([a-z]+)(?=[.|:]|$)").match(self.text, at, end)
        if found is None or found[1] not in (*MODIFIERS, *UNSUPPORTED):
            return None
        if found[1] in UNSUPPORTED or self.text[found.end() : found.end() + 1] == ":":
            known = " ".join(f"@{name}" for name in MODIFIERS)
            hint = f"supported, without arguments: {known}"
            raise self.fault(f"modifier @{found[1]} is not supported as it is used here", at, hint)
        return Part(MODIFIER, MODIFIERS[found[1]]), found.end()

    def name(self, at: int, end: int) -> tuple[Part, int]:
        start = at
        plain, pattern, wild, escaped = "", "", False, False
        while at < end and self.text[at] not in ".|":
            char = self.text[at]
            if char == "\\":
                at += 1
                escaped = True
                if at == end:
                    raise self.fault("backslash at the end", at - 1)
                char = self.text[at]
                pattern += "\\" + char
            else:
                wild = wild or char in "*?"
                pattern += char
            plain += char
            at += 1
        if wild:
            return Part(WILD, text=pattern), at
        is_index = (
            not escaped and plain.isascii() and plain.isdigit() and at - start <= INDEX_DIGITS
        )
        return Part(NAME, text=plain, index=int(plain) if is_index else -1), at

    def query(self, at: int, end: int) -> tuple[Part, int]:
        """`#(left operator value)`, with `#` behind it for all matches."""
        close, operator = self.scan_query(at + 2, end)
        split = close if operator is None else operator
        left_at, left_end = self.trim(at + 2, split)
        left = self.path(left_at, left_end) if left_at < left_end else None
        part = Part(QUERY, left=left)
        if operator is not None:
            self.comparison(part, operator, close)
        elif left is None:
            raise self.fault("empty query", at)
        close += 1
        if self.text[close : close + 1] == "#" and close < end:
            part.kind = QUERY_ALL
            close += 1
        return part, close

    def comparison(self, part: Part, at: int, end: int) -> None:
        word = self.text[at : at + 2]
        operator = word if word in OPERATORS else word[:1]
        if operator not in OPERATORS:
            raise self.fault(f"unknown operator {word!r}", at)
        value_at, value_end = self.trim(at + len(operator), end)
        value = self.text[value_at:value_end]
        if not value or value[0] == "~":
            reason = "`~` is not supported" if value else "a value is missing"
            raise self.fault(reason, value_at, 'compare with a number, true, false or "text"')
        part.operator = OPERATORS[operator]
        part.value = self.literal(value, value_at)
        part.index = 1 if JSON_NUMBER.fullmatch(part.value) else 0

    def literal(self, value: str, at: int) -> str:
        if not value.startswith('"'):
            return value
        quoted = QUOTED.fullmatch(value)
        if quoted is None:
            raise self.fault("text after the closing quote", at)
        return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", _unescape, quoted[1], flags=re.S)

    def trim(self, at: int, end: int) -> tuple[int, int]:
        while at < end and self.text[at] in " \t":
            at += 1
        while at < end and self.text[end - 1] in " \t":
            end -= 1
        return at, end

    def scan_query(self, at: int, end: int) -> tuple[int, int | None]:
        """Where the query closes, and where its operator starts, if it has one."""
        start, depth, operator = at, 1, None
        while at < end:
            char = self.text[at]
            if char == "\\":
                at += 1
            elif char == '"':
                quoted = QUOTED.match(self.text, at, end)
                if quoted is None:
                    raise self.fault("quote without its other half", at)
                at = quoted.end() - 1
            elif char in "([":
                depth += 1
            elif char in ")]":
                depth -= 1
                if depth == 0:
                    return at, operator
            elif char in "=!<>%" and depth == 1 and operator is None:
                operator = at
            at += 1
        raise self.fault("query without its closing parenthesis", start - 1)


def _unescape(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return ESCAPES.get(code, code)
