"""What _ext/json_scan.h does, in plain Python: same verdict, code and byte for every input."""

import re

END, CHAR, CONTROL, ESCAPE, SURROGATE, UTF8, NUMBER, DEPTH, TRAILING = range(1, 10)

SPACE = b" \n\r\t"
HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
NUMBER_SHAPE = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
NUMBER_ATTEMPT = re.compile(rb"-?[0-9]*(?:(?<=[0-9])\.[0-9]*)?(?:(?<=[0-9])[eE][+-]?[0-9]*)?")
ESCAPED = {34: '"', 92: "\\", 47: "/", 98: "\b", 102: "\f", 110: "\n", 114: "\r", 116: "\t"}


class JsonError(Exception):
    def __init__(self, code: int, offset: int) -> None:
        super().__init__(code, offset)
        self.code = code
        self.offset = offset


def check_json(text: bytes, max_depth: int = 64) -> tuple[int, int] | None:
    """None, or (code, offset) of the first fault."""
    try:
        at = skip_space(text, value(text, 0, max_depth))
        if at < len(text):
            raise JsonError(TRAILING, at)
    except JsonError as error:
        return error.code, error.offset
    return None


def skip_space(text: bytes, at: int) -> int:
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def need(text: bytes, at: int) -> int:
    """The byte at `at`, which must be there."""
    if at >= len(text):
        raise JsonError(END, len(text))
    return text[at]


def value(text: bytes, at: int, depth_left: int) -> int:
    """Validate one value with the space before it; the offset behind it."""
    at = skip_space(text, at)
    first = need(text, at)
    if first in b"{[":
        if depth_left == 0:
            raise JsonError(DEPTH, at)
        return container(text, at, depth_left)
    return scalar(text, at)


def container(text: bytes, at: int, depth_left: int) -> int:
    is_object = text[at] == ord("{")
    closing = ord("}") if is_object else ord("]")
    at = skip_space(text, at + 1)
    if at < len(text) and text[at] == closing:
        return at + 1
    while True:
        if is_object:
            at = name(text, skip_space(text, at))[1]
        at = skip_space(text, value(text, at, depth_left - 1))
        separator = need(text, at)
        if separator == closing:
            return at + 1
        if separator != ord(","):
            raise JsonError(CHAR, at)
        at += 1


def name(text: bytes, at: int) -> tuple[str, int]:
    """A member's name and the offset behind its colon."""
    if need(text, at) != ord('"'):
        raise JsonError(CHAR, at)
    found, at = string(text, at)
    at = skip_space(text, at)
    if need(text, at) != ord(":"):
        raise JsonError(CHAR, at)
    return found, at + 1


def scalar(text: bytes, at: int) -> int:
    first = text[at]
    if first == ord('"'):
        return string(text, at)[1]
    if first in b"-0123456789":
        attempt = NUMBER_ATTEMPT.match(text, at)
        assert attempt is not None
        exact = NUMBER_SHAPE.match(text, at)
        if exact is None or exact.end() != attempt.end():
            raise JsonError(NUMBER, at)
        return exact.end()
    for word in (b"true", b"false", b"null"):
        if text.startswith(word, at):
            return at + len(word)
    raise JsonError(CHAR, at)


def string(text: bytes, at: int) -> tuple[str, int]:
    """The text of the string whose quote is at `at`, and the offset behind it."""
    out: list[str] = []
    at += 1
    while True:
        byte = need(text, at)
        if byte == ord('"'):
            return "".join(out), at + 1
        if byte == ord("\\"):
            part, at = escape(text, at)
        elif byte < 0x20:
            raise JsonError(CONTROL, at)
        else:
            part, at = character(text, at)
        out.append(part)


def character(text: bytes, at: int) -> tuple[str, int]:
    for size in range(1, 5):
        try:
            return text[at : at + size].decode(), at + size
        except UnicodeDecodeError:
            continue
    raise JsonError(UTF8, at)


def escape(text: bytes, at: int) -> tuple[str, int]:
    if at + 1 >= len(text):
        raise JsonError(END, len(text))
    if text[at + 1] in ESCAPED:
        return ESCAPED[text[at + 1]], at + 2
    unit = unicode_unit(text, at)
    if unit is None:
        raise JsonError(ESCAPE, at)
    if not 0xD800 <= unit <= 0xDFFF:
        return chr(unit), at + 6
    low = unicode_unit(text, at + 6)
    if unit < 0xDC00 and low is not None and 0xDC00 <= low <= 0xDFFF:
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), at + 12
    raise JsonError(SURROGATE, at)


def unicode_unit(text: bytes, at: int) -> int | None:
    digits = HEX4.match(text, at + 2)
    if text[at : at + 2] != b"\\u" or digits is None:
        return None
    return int(digits.group(), 16)
