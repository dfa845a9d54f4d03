"""What _ext/diff.pyx does, in plain Python: the same verdicts, texts, hashes and error offsets."""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import xxhash

from tests.reference import json_scan as scan

NULL, TRUE, FALSE, NUMBER, STRING, NAME, ARRAY, OBJECT = range(1, 9)
SEEDS = (0x6C6974656A6F696E, 0x9D3F0A5B71C2E846)
MASK = 2**64 - 1
LITERALS = {ord("n"): NULL, ord("t"): TRUE, ord("f"): FALSE}
NUMBER_PARTS = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
RECORD_VALUES = 1_000_000


@dataclass
class Node:
    kind: int
    raw: bytes
    text: str = ""
    members: dict[tuple[str, int], "Node"] = field(default_factory=dict)
    elements: list["Node"] = field(default_factory=list)


def parse(text: bytes, max_depth: int = 64) -> Node:
    """Raises json_scan.JsonError as the scanner's twin does."""
    fault = scan.check_json(text, max_depth)
    if fault:
        raise scan.JsonError(*fault)
    return build(text, 0)[0]


def build(text: bytes, at: int) -> tuple[Node, int]:
    start = scan.skip_space(text, at)
    first = text[start]
    if first not in b"{[":
        end = scan.scalar(text, start)
        raw = text[start:end]
        if first == ord('"'):
            return Node(STRING, raw, scan.string(text, start)[0]), end
        return Node(LITERALS.get(first, NUMBER), raw), end
    node = Node(OBJECT if first == ord("{") else ARRAY, b"")
    at = scan.skip_space(text, start + 1)
    seen: dict[str, int] = {}
    while text[at] not in b"}]":
        if text[at] == ord(","):
            at = scan.skip_space(text, at + 1)
        if node.kind == OBJECT:
            name, at = scan.name(text, at)
            child, at = build(text, at)
            seen[name] = seen.get(name, -1) + 1
            node.members[name, seen[name]] = child
        else:
            child, at = build(text, at)
            node.elements.append(child)
        at = scan.skip_space(text, at)
    node.raw = text[start : at + 1]
    return node, at + 1


@dataclass(frozen=True)
class Number:
    """0.`digits` x 10^magnitude; `huge` spellings are only themselves."""

    negative: bool
    digits: bytes
    magnitude: int
    huge: bytes = b""


def number(raw: bytes) -> Number:
    parts = NUMBER_PARTS.fullmatch(raw)
    assert parts is not None
    minus, whole, fraction, sign, exponent = parts.groups()
    digits = whole + (fraction or b"")
    significant = digits.lstrip(b"0")
    if not significant:
        return Number(False, b"", 0)
    power = (exponent or b"").lstrip(b"0")
    if len(power) > 18:
        return Number(False, b"", 0, raw)
    magnitude = len(whole) - (len(digits) - len(significant))
    magnitude += int(power or b"0") * (-1 if sign == b"-" else 1)
    return Number(bool(minus), significant.rstrip(b"0"), magnitude)


def compare_numbers(a: Number, b: Number) -> int | None:
    """-1, 0, 1 as a is less, equal or greater; None when one is too huge to tell."""
    if a == b:
        return 0
    if a.huge or b.huge:
        return None
    return -1 if order(a) < order(b) else 1


def order(n: Number) -> tuple[int, int, tuple[int, ...]]:
    if not n.digits:
        return (0, 0, ())
    digits = (*n.digits, 0)  # a prefix is the smaller one
    if n.negative:
        return (-1, -n.magnitude, tuple(-d for d in digits))
    return (1, n.magnitude, digits)


Patterns = list[tuple[str, ...]]


def segments(path: str) -> tuple[str, ...]:
    parts = re.split(r"(?<!\\)((?:\\\\)*)\.", path)
    joined = [
        parts[i] + (parts[i + 1] if i + 1 < len(parts) else "") for i in range(0, len(parts), 2)
    ]
    return tuple(re.sub(r"\\(.)", r"\1", part, flags=re.S) for part in joined)


def step(patterns: Patterns, name: str | None, index: int) -> tuple[Patterns, bool]:
    """The patterns that go on below a member or element, and whether it is itself ignored."""
    below: Patterns = []
    ignored = False
    for pattern in patterns:
        head = pattern[0]
        if name is not None:
            match = head == name
        else:
            match = head == "#" or (
                head.isascii() and head.isdigit() and len(head) < 10 and int(head) == index
            )
        if match and len(pattern) == 1:
            ignored = True
        elif match:
            below.append(pattern[1:])
    return below, ignored


def children(
    node: Node, patterns: Patterns
) -> Iterator[tuple[tuple[str, int] | int, Node, Patterns]]:
    """The children that count: by (name, occurrence) or index, with the patterns below them."""
    for (name, occurrence), child in node.members.items():
        below, ignored = step(patterns, name, -1)
        if not ignored:
            yield (name, occurrence), child, below
    for index, child in enumerate(node.elements):
        below, ignored = step(patterns, None, index)
        if not ignored:
            yield index, child, below


def differences(
    a: Node, b: Node, patterns: Patterns, path: str = "$"
) -> Iterator[tuple[str, Node | None, Node | None]]:
    if a.kind != b.kind:
        yield path, a, b
    elif a.kind in (OBJECT, ARRAY):
        left = {key: (child, below) for key, child, below in children(a, patterns)}
        right = {key: child for key, child, _ in children(b, patterns)}
        for key, (child, below) in left.items():
            if key in right:
                yield from differences(child, right[key], below, path + show(key))
            elif isinstance(key, tuple):
                yield path + show(key), child, None
        if a.kind == ARRAY:
            for key in sorted(set(left) ^ set(right), key=lambda k: (isinstance(k, int), k)):
                yield path + show(key), left.get(key, (None, []))[0], right.get(key)
        else:
            yield from ((path + show(key), None, right[key]) for key in right if key not in left)
    elif a.kind == NUMBER:
        if number(a.raw) != number(b.raw):
            yield path, a, b
    elif a.text != b.text:
        yield path, a, b


def show(key: tuple[str, int] | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    name, occurrence = key
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    return "." + (name if plain else quote(name)) + (f"({occurrence + 1})" if occurrence else "")


def quote(text: str) -> str:
    r"""A JSON string literal that escapes only what it must, control characters as \u00xx."""
    short = {r"\b": "08", r"\t": "09", r"\n": "0a", r"\f": "0c", r"\r": "0d"}
    out = json.dumps(text, ensure_ascii=False)
    return re.sub(r"\\.", lambda m: rf"\u00{short[m[0]]}" if m[0] in short else m[0], out)


def equal(a: bytes, b: bytes, max_depth: int = 64) -> bool:
    return next(differences(parse(a, max_depth), parse(b, max_depth), []), None) is None


def changes(
    before: bytes, after: bytes, ignore: Sequence[str] = (), max_depth: int = 64
) -> bytes | None:
    a, b = parse(before, max_depth), parse(after, max_depth)
    limit = 4 * (len(a.raw) + len(b.raw)) + 65536
    out = b""
    for path, left, right in differences(a, b, [segments(p) for p in ignore]):
        pair = b",".join(node.raw if node else b"null" for node in (left, right))
        out += (b"," if out else b"{") + quote(path).encode() + b":[" + pair + b"]"
    if not out:
        return None
    if len(out) > limit:
        out = b'{"$":[' + a.raw + b"," + b.raw + b"]"
    return out + b"}"


Hash = tuple[int, int]


def hash_bytes(data: bytes, tag: int) -> Hash:
    one, two = (xxhash.xxh64_intdigest(data, (seed + tag) & MASK) for seed in SEEDS)
    return one, two


def hash_number(n: Number) -> Hash:
    if n.huge:
        return hash_bytes(n.huge, NUMBER * 16 + 1)
    if len(n.digits) <= 19:
        mantissa = int(n.digits or b"0")
    else:
        mantissa = 0
        for digit in n.digits:
            mantissa = (mantissa + digit * 0xC2B2AE3D27D4EB4F) & MASK
            mantissa = ((mantissa << 31 | mantissa >> 33) & MASK) * 0x9E3779B185EBCA87 & MASK
    head = struct.pack("<qQQ", n.magnitude, len(n.digits) << 1 | n.negative, mantissa)
    return hash_bytes(head, NUMBER * 16)


def hash_node(node: Node, patterns: Patterns) -> Hash:
    if node.kind == NUMBER:
        return hash_number(number(node.raw))
    if node.kind == STRING:
        return hash_bytes(node.text.encode(), STRING)
    if node.kind == ARRAY:
        chain = (0, 0)
        for index, child, below in children(node, patterns):
            assert isinstance(index, int)
            value = hash_node(child, below)
            chain = hash_bytes(struct.pack("<QQQQQ", *chain, index, *value), ARRAY)
        return hash_bytes(struct.pack("<QQ", *chain), ARRAY)
    if node.kind == OBJECT:
        found = []
        for key, child, below in children(node, patterns):
            assert isinstance(key, tuple)
            found.append((hash_bytes(key[0].encode(), NAME), key[1], hash_node(child, below)))
        found.sort(key=lambda member: member[:2])
        data = b"".join(struct.pack("<QQQQQ", *name, *value, 0) for name, _, value in found)
        return hash_bytes(data, OBJECT)
    return hash_bytes(b"", node.kind)


def record_hash(record: bytes, ignore: Sequence[str] = (), max_depth: int = 64) -> bytes:
    return struct.pack("<QQ", *hash_node(parse(record, max_depth), [segments(p) for p in ignore]))
