"""gjson paths over parsed JSON, in plain Python: what _ext/gjson.pyx finds, by another road.

Paths are taken to be well formed (refusals are tested by examples). Results are JSON text.
"""

import json
import re
from collections.abc import Sequence

from tests.reference.diff import (
    ARRAY,
    FALSE,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    TRUE,
    Node,
    build,
    compare_numbers,
    number,
    parse,
)
from tests.reference.json_scan import NUMBER_SHAPE, JsonError, scalar

OPERATORS = re.compile(r"==|!=|<=|>=|!%|[=<>%]")


def get(document: bytes, path: str, max_depth: int = 64) -> bytes | None:
    found = walk(parse(document, max_depth), path)
    return None if found is None else found.raw


def cut(text: str, separators: str) -> tuple[str, str, str]:
    """(before, separator, after) at the first separator outside of parentheses and quotes."""
    depth = i = 0
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == '"' and depth:
            i += 1
            while text[i] != '"':
                i += 2 if text[i] == "\\" else 1
        elif depth == 0 and text[i] in separators:
            return text[:i], text[i], text[i + 1 :]
        elif text[i] in "(":
            depth += 1
        elif text[i] in ")":
            depth -= 1
        i += 1
    return text, "", ""


def walk(node: Node | None, path: str) -> Node | None:
    stage, pipe, rest = cut(path, "|")
    while node is not None and stage:
        part, _, stage = cut(stage, ".")
        node, stage = step(node, part, stage)
    return walk(node, rest) if pipe else node


def step(node: Node, part: str, rest: str) -> tuple[Node | None, str]:
    """What `part` finds in a node, and what is left of the stage."""
    if re.fullmatch("@(this|reverse|keys|values|flatten|fromstr)", part):
        return modify(node, part[1:]), rest
    if node.kind == ARRAY and part == "#" and not rest:
        return parse(b"%d" % len(node.elements)), ""
    if node.kind == ARRAY and (part == "#" or part.startswith("#(")):
        if part.startswith("#(") and not part.endswith("#"):
            return next((e for e in node.elements if asked(e, part[2:-1])), None), rest
        chosen = [e for e in node.elements if part == "#" or asked(e, part[2:-2])]
        found = [walk(e, rest) if rest else e for e in chosen]
        return array([e.raw for e in found if e is not None]), ""
    if node.kind == ARRAY:
        is_index = re.fullmatch("[0-9]{1,9}", part) and int(part) < len(node.elements)
        return (node.elements[int(part)] if is_index else None), rest
    if node.kind == OBJECT and not part.startswith("#("):
        pattern = name_pattern(part)
        return next((v for (n, _), v in node.members.items() if pattern.fullmatch(n)), None), rest
    return None, rest


def array(parts: Sequence[bytes]) -> Node:
    return build(b"[" + b",".join(parts) + b"]", 0)[0]


def name_pattern(part: str) -> re.Pattern[str]:
    out = ""
    for token in re.findall(r"\\.|.", part, re.S):
        out += {"*": ".*", "?": "."}.get(token) or re.escape(token[-1])
    return re.compile(out, re.S)


def modify(node: Node, modifier: str) -> Node | None:
    names = [name for name, _ in node.members]
    values = [value.raw for value in node.members.values()]
    if modifier == "reverse" and node.kind == OBJECT:
        pairs = [json.dumps(n).encode() + b":" + v for n, v in zip(names, values, strict=True)]
        return build(b"{" + b",".join(reversed(pairs)) + b"}", 0)[0]
    if modifier == "reverse" and node.kind == ARRAY:
        return array([e.raw for e in reversed(node.elements)])
    if modifier == "keys":
        return array([json.dumps(n).encode() for n in names]) if node.kind == OBJECT else None
    if modifier == "values" and node.kind == OBJECT:
        return array(values)
    if modifier == "flatten" and node.kind == ARRAY:
        inner = ([c.raw for c in e.elements] if e.kind == ARRAY else [e.raw] for e in node.elements)
        return array([raw for part in inner for raw in part])
    if modifier == "fromstr":
        try:
            return parse(node.text.encode(), 1024) if node.kind == STRING else None
        except JsonError:
            return None
    return node


def asked(element: Node, query: str) -> bool:
    left, operator, _ = cut(query, "=!<>%")
    found: Node | None = element
    if left.strip():
        if element.kind not in (OBJECT, ARRAY):
            return False
        found = walk(element, left.strip())
    if found is None or not operator:
        return found is not None
    sign = OPERATORS.match(query, len(left))
    assert sign is not None
    value = query[sign.end() :].strip()
    return matches(found, sign[0], json.loads(value) if value.startswith('"') else value)


def matches(found: Node, sign: str, value: str) -> bool:
    if sign == "=":
        sign = "=="
    if found.kind == STRING:
        if "%" in sign:
            return bool(name_pattern(value).fullmatch(found.text)) == (sign == "%")
        a, b = found.text.encode(), value.encode()
        return ordered((a > b) - (a < b), sign)
    if found.kind == NUMBER:
        if not NUMBER_SHAPE.fullmatch(value.encode()):
            return sign == "!="
        order = compare_numbers(number(found.raw), number(value.encode()))
        return sign == "!=" if order is None else ordered(order, sign)
    if found.kind in (TRUE, FALSE):
        word, other, more = ("true", "false", ">") if found.kind == TRUE else ("false", "true", "<")
        rules = {"==": value == word, "!=": value != word, more: value == other, more + "=": True}
        return rules.get(sign, False)
    assert found.kind in (NULL, ARRAY, OBJECT)
    return False


def ordered(order: int, sign: str) -> bool:
    rules = {"==": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0}
    return {**rules, ">": order > 0, ">=": order >= 0}.get(sign, False)


NUMBER_TEXT = re.compile(rb"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?)0*(\d*))?")


def number_key(raw: bytes) -> bytes:
    """All spellings of a number give one text; plain digits while they fit a key."""
    match = NUMBER_TEXT.fullmatch(raw)
    assert match
    sign, whole, fraction, exponent_sign, exponent = (part or b"" for part in match.groups())
    digits = (whole + fraction).lstrip(b"0")
    if not re.search(rb"[-.eE]", raw):
        return raw
    if len(exponent) > 18 and digits:
        return raw
    if not digits:
        return b"0"
    magnitude = int((exponent_sign + exponent) or b"0") if exponent else 0
    magnitude += len(digits) - len(fraction)
    digits = digits.rstrip(b"0")
    if abs(magnitude) > 512:
        return b"%s%se%d" % (sign, digits, magnitude - len(digits))
    if magnitude <= 0:
        return sign + b"0." + b"0" * -magnitude + digits
    whole, fraction = digits[:magnitude].ljust(magnitude, b"0"), digits[magnitude:]
    return sign + whole + (b"." + fraction if fraction else b"")


def key_of(record: bytes, paths: Sequence[str]) -> bytes | None:
    """The key, or None where there is none."""
    parts = []
    for path in paths:
        found = walk(parse(record, 1024), path)
        if found is None or found.kind not in (STRING, NUMBER):
            return None
        parts.append(found.text.encode() if found.kind == STRING else number_key(found.raw))
    key = b":".join(parts)
    return key if 0 < len(key) <= 512 and b"\0" not in key else None


def outline(document: bytes, most: int) -> bytes:
    """The document, `[]` for each array, not within another, of more than `most` bytes."""
    out, at = b"", 0
    while at < len(document):
        first = document[at]
        if first == ord("["):
            end = build(document, at)[1]
            out += document[at:end] if end - at <= most else b"[]"
        elif first == ord('"'):
            end = scalar(document, at)
            out += document[at:end]
        else:
            end = at + 1
            out += document[at:end]
        at = end
    return out
