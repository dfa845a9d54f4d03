"""Maps the characters of a YAML scalar's value back to where they stand in the file.

A YAML parser tells where a scalar starts, not where the third line of a `query: |` begins. But no
style of scalar changes anything except white space, doubled single quotes and backslash escapes, so
walking value and source side by side finds every character. Used only to place a finding.
"""

import re

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_WHITE = " \t\r\n"

_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


def align(source: str, start: int, end: int, value: str, style: str | None) -> list[int]:
    """Source index of every character of `value`, and of its end: `len(value) + 1` numbers.

    `source[start:end]` is the scalar as written, quotes or block header included.
    """
    at = start
    if style == "|":
        return _literal(source, _after_header(source, start, end), end, value)
    if style == ">":
        at = _after_header(source, start, end)
    elif style in ("'", '"'):
        at = start + 1
    indexes: list[int] = []
    for character in value:
        if style == '"':
            at = _skip_continuation(source, at, end)
        if character in _WHITE and not (at < end and style == '"' and source[at] == "\\"):
            indexes.append(min(at, end))
            at = _past_white(source, at, end, character)
            continue
        if not (style == '"' and at < end and source[at] == "\\"):
            at = _skip_white(source, at, end)
        indexes.append(min(at, end))
        at += _width(source, at, style, character)
    indexes.append(min(at, end))
    return indexes


def _after_header(source: str, start: int, end: int) -> int:
    """The first character after the line of a block scalar's `|` or `>`."""
    line_end = source.find("\n", start, end)
    if line_end < 0:
        line_end = source.find("\r", start, end)
    return end if line_end < 0 else line_end + 1


def _literal(source: str, at: int, end: int, value: str) -> list[int]:
    """A literal block keeps its lines; what stands before their content is indentation."""
    indexes: list[int] = []
    for line in _LINE.findall(value):
        content = len(line.removesuffix("\n"))
        line_end = source.find("\n", at, end)
        line_end = end if line_end < 0 else line_end
        # A block's line ends in LF or CRLF; with any other end the text is taken as it comes.
        text_end = line_end - 1 if source[line_end - 1 : line_end] == "\r" else line_end
        begin = max(at, text_end - content)
        indexes.extend(min(begin + step, end) for step in range(len(line)))
        at = min(line_end + 1, end)
    indexes.append(at)
    return indexes


def _skip_white(source: str, at: int, end: int) -> int:
    while at < end and source[at] in _WHITE:
        at += 1
    return at


def _past_white(source: str, at: int, end: int, character: str) -> int:
    """Step over what became one white character: itself, or a line break that was folded."""
    if at >= end or source[at] not in _WHITE:
        return at
    if character == "\n" and source[at] in " \t":
        # Blanks before a line break are not part of the value.
        while at < end and source[at] in " \t":
            at += 1
    if source.startswith("\r\n", at):
        return at + 2
    return at + 1 if at < end and source[at] in _WHITE else at


def _skip_continuation(source: str, at: int, end: int) -> int:
    """A backslash before a line break joins two lines and leaves nothing in the value."""
    while at + 1 < end and source[at] == "\\" and source[at + 1] in "\r\n":
        at = _skip_white(source, at + 1, end)
    return at


def _width(source: str, at: int, style: str | None, character: str) -> int:
    """How many source characters one character of the value takes."""
    if style == "'" and character == "'":
        return 2
    if style == '"' and source[at : at + 1] == "\\":
        return 2 + _HEX_ESCAPES.get(source[at + 1 : at + 2], 0)
    return 1
