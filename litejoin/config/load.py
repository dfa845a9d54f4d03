"""Strict YAML: config text -> tree of nodes with positions, or findings. Never a traceback.

PyYAML's event parser (libyaml) reads the text; this module builds the tree from its events, so that
nothing is resolved, constructed or expanded behind the config's back. Refused with a position:
duplicate keys, more than one document, tags, complex keys, bytes that are not UTF-8 text, and texts
that are too large, too deep or multiply themselves through aliases.
"""

import re
from dataclasses import dataclass, field
from typing import NoReturn

import yaml
from yaml._yaml import CParser

from litejoin.config.diagnostics import Diagnostics
from litejoin.config.nodes import Entry, Mapping, Node, Scalar, Sequence, Source
from litejoin.config.text import shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Values in the tree, aliases counted in full. The largest sensible config has a few thousand."""
MAX_ALIASES = 100

_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")
_CORE_TAG = "tag:yaml.org,2002:"
_CORE_TAGS = tuple(_CORE_TAG + name for name in ("map", "seq", "int", "float", "bool", "null"))

_ADVICE = {
    "found character that cannot start any token": (
        "a text cannot start with this character",
        "put the text in quotes",
    ),
    "mapping values are not allowed in this context": (
        "a colon and a blank start a value, but there is one already",
        'a text that holds ": " needs quotes; a new key starts on its own line',
    ),
    "could not find expected ':'": (
        "this line has no colon, so it is no key with a value",
        "every line of a mapping is `key: value`",
    ),
    "did not find expected key": (
        "a key is expected here",
        "keys of one mapping are aligned; a quoted text ends with its quote",
    ),
    "did not find expected '-' indicator": (
        "an item that starts with - is expected here",
        "check the indentation: items of one list are aligned, and so are an item's keys",
    ),
    "did not find expected ',' or ']'": ("this list is not closed", "close it with ]"),
    "did not find expected ',' or '}'": ("this mapping is not closed", "close it with }"),
    "found unexpected end of stream": ("these quotes are not closed", "close the quotes"),
    "found undefined tag handle": ("this tag is not defined", "put the text in quotes"),
    "found unexpected document indicator": ("these quotes are not closed", "close the quotes"),
    "found unknown escape character": (
        "in double quotes a backslash starts an escape, and there is none like this",
        "write two backslashes, or use single quotes",
    ),
}
"""What libyaml says -> what it means, and what to do."""


class _Refused(Exception):
    """The text cannot be read further; the finding is recorded already."""


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    node: Mapping | Sequence
    anchor: str | None
    key: Scalar | None = None
    duplicate: bool = False
    tagged: bool = False
    """It has a tag that is refused: what it holds must not be judged."""
    inherited: dict[str, Entry] = field(default_factory=dict)
    """What `<<` brought: kept aside, because the mapping's own keys win wherever they stand."""


@dataclass(slots=True)
class _Builder:
    """Builds the tree from events, with a stack of its own: depth costs no recursion."""

    source: Source
    found: Diagnostics
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    nodes: int = 0
    aliases: int = 0
    root: Node | None = None
    counts: list[int] = field(default_factory=list)


def load_bytes(name: str, data: bytes, found: Diagnostics) -> Node | None:
    """The tree of a file's bytes (UTF-8, with or without BOM); None when nothing can be used."""
    source = Source(name, "")
    if len(data) > MAX_BYTES:
        found.at(source, 0, "LJ121", f"the file has {len(data):,} bytes, at most 1 MiB is read")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        source = Source(name, data[: error.start].decode("utf-8"))
        kind = "UTF-16 text" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "no UTF-8 text"
        found.at(source, error.start and len(source.text), "LJ120", f"the file is {kind}")
        return None
    return load_text(name, text, found)


def load_text(name: str, text: str, found: Diagnostics) -> Node | None:
    """The tree of a text; None when it is empty or cannot be read, with a finding."""
    source = Source(name, text.removeprefix("\ufeff"))
    if len(source.text) > MAX_BYTES:
        found.at(source, 0, "LJ121", "the text is larger than 1 MiB")
        return None
    bad = _NOT_TEXT.search(source.text)
    if bad:
        message = f"the character {shown(bad[0])} is not allowed in YAML"
        found.at(source, bad.start(), "LJ120", message)
        return None
    builder = _Builder(source, found)
    try:
        _read(builder)
    except _Refused:
        return None
    except yaml.MarkedYAMLError as error:
        _report_syntax(builder, error)
        return None
    except yaml.YAMLError as error:
        found.at(source, 0, "LJ101", f"the YAML cannot be read: {shown(str(error))}")
        return None
    if builder.root is None:
        found.at(source, 0, "LJ125", "the config is empty")
    return builder.root


def _read(builder: _Builder) -> None:
    parser = CParser(builder.source.text)
    documents = 0
    while parser.check_event():
        event = parser.get_event()
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                message = "a second YAML document starts here; a config is one document"
                _refuse(builder, _start(event), "LJ124", message)
        elif isinstance(event, yaml.ScalarEvent):
            _scalar(builder, event)
        elif isinstance(event, yaml.AliasEvent):
            _alias(builder, event)
        elif isinstance(event, yaml.CollectionStartEvent):
            _open(builder, event)
        elif isinstance(event, yaml.CollectionEndEvent):
            _close(builder, event)


def _start(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


def _end(event: yaml.Event) -> int:
    return event.end_mark.index if event.end_mark else 0


def _refuse(builder: _Builder, index: int, code: str, message: str) -> NoReturn:
    builder.found.at(builder.source, index, code, message)
    raise _Refused


def _count(builder: _Builder, index: int, nodes: int) -> None:
    builder.nodes += nodes
    if builder.nodes > MAX_NODES:
        message = f"the config has more than {MAX_NODES:,} values (aliases counted in full)"
        _refuse(builder, index, "LJ121", message)


def _scalar(builder: _Builder, event: yaml.ScalarEvent) -> None:
    start = _start(event)
    _count(builder, start, 1)
    tagged = _has_bad_tag(builder, event.tag, start, scalar=True)
    plain = event.style in (None, "") and event.tag not in _STRING_TAGS
    if event.anchor is not None or event.tag is not None:
        start = _past_properties(builder.source.text, start, _end(event))
    end = _end(event)
    node = Scalar(builder.source, start, end, event.value, plain, event.style or None)
    node.unknown = tagged
    _add(builder, node, event.anchor, 1)


def _past_properties(text: str, start: int, end: int) -> int:
    """Skip `&anchor` and `!tag` before a scalar: its own text starts behind them."""
    match = re.compile(r"(?:[&!]\S*\s+)*").match(text, start, end)
    return match.end() if match else start


def _has_bad_tag(builder: _Builder, tag: str | None, index: int, *, scalar: bool) -> bool:
    if tag is None or tag in _CORE_TAGS or (scalar and tag in _STRING_TAGS) or tag == "!":
        return False
    name = tag.replace(_CORE_TAG, "!!")
    builder.found.at(
        builder.source, index, "LJ126", f"the tag {shown(name)} is not supported in a config"
    )
    return True


def _alias(builder: _Builder, event: yaml.AliasEvent) -> None:
    index = _start(event)
    builder.aliases += 1
    if builder.aliases > MAX_ALIASES:
        message = f"more than {MAX_ALIASES} aliases; write the values out"
        _refuse(builder, index, "LJ123", message)
    known = builder.anchors.get(event.anchor or "")
    if known is None:
        inside = any(level.anchor == event.anchor for level in builder.stack)
        what = "stands inside of its own anchor" if inside else "has no anchor before it"
        _refuse(builder, index, "LJ123", f"the alias *{shown(event.anchor or '')} {what}")
        return
    node, nodes = known
    _count(builder, index, nodes)
    if len(builder.stack) + _depth(node) > MAX_DEPTH:
        _refuse(builder, index, "LJ122", f"the config is nested deeper than {MAX_DEPTH} levels")
    _add(builder, node, None, nodes)


def _depth(node: Node) -> int:
    """Levels of collections in a node; at most MAX_DEPTH, as the tree is built bounded."""
    if isinstance(node, Mapping):
        return 1 + max((_depth(entry.value) for entry in node.entries.values()), default=0)
    if isinstance(node, Sequence):
        return 1 + max(map(_depth, node.items), default=0)
    return 0


def _open(builder: _Builder, event: yaml.CollectionStartEvent) -> None:
    index = _start(event)
    _count(builder, index, 1)
    if len(builder.stack) >= MAX_DEPTH:
        _refuse(builder, index, "LJ122", f"the config is nested deeper than {MAX_DEPTH} levels")
    tagged = _has_bad_tag(builder, event.tag, index, scalar=False)
    top = builder.stack[-1] if builder.stack else None
    if top is not None and isinstance(top.node, Mapping) and top.key is None:
        _refuse(builder, index, "LJ127", "a key must be a plain text, not a list or a mapping")
    kind = Mapping if isinstance(event, yaml.MappingStartEvent) else Sequence
    node = kind(builder.source, index, index)
    builder.stack.append(_Open(node, event.anchor, tagged=tagged))
    builder.counts.append(builder.nodes)


def _close(builder: _Builder, event: yaml.CollectionEndEvent) -> None:
    level = builder.stack.pop()
    level.node.end = _end(event)
    if isinstance(level.node, Mapping):
        for name, entry in level.inherited.items():
            level.node.entries.setdefault(name, entry)
    nodes = builder.nodes - builder.counts.pop() + 1
    node: Node = level.node
    if level.tagged:
        node = Scalar(builder.source, node.start, node.end, "", plain=True, style=None)
        node.unknown = True
    _add(builder, node, level.anchor, nodes)


def _add(builder: _Builder, node: Node, anchor: str | None, nodes: int) -> None:
    """Put a finished node where it belongs: a key, a value, an item or the root."""
    if anchor is not None:
        builder.anchors[anchor] = (node, nodes)
    if not builder.stack:
        builder.root = node
        return
    top = builder.stack[-1]
    if isinstance(top.node, Sequence):
        top.node.items.append(node)
    elif top.key is None:
        _take_key(builder, top, node)
    else:
        _take_value(builder, top, top.key, node)


def _take_key(builder: _Builder, top: _Open, node: Node) -> None:
    assert isinstance(top.node, Mapping)
    if not isinstance(node, Scalar):
        _refuse(builder, node.start, "LJ127", "a key must be a plain text, not an alias of a list")
        return
    top.key = node
    first = top.node.entries.get(node.written)
    top.duplicate = first is not None
    if first is not None:
        line = first.key.place.line
        message = f'the key "{shown(node.written)}" stands twice in one mapping'
        builder.found.node(node, "LJ102", message, hint=f"the first one is in line {line}")


def _take_value(builder: _Builder, top: _Open, key: Scalar, node: Node) -> None:
    assert isinstance(top.node, Mapping)
    top.key = None
    if top.duplicate:
        return
    if key.written == "<<" and key.plain:
        _merge(builder, top, key, node)
        return
    top.node.entries[key.written] = Entry(key, node)


def _merge(builder: _Builder, top: _Open, key: Scalar, node: Node) -> None:
    """`<<: *base` and `<<: [*a, *b]`: keys of the base that the mapping does not have itself."""
    bases = node.items if isinstance(node, Sequence) else [node]
    for base in bases:
        if not isinstance(base, Mapping):
            builder.found.node(key, "LJ104", "<< takes a mapping or a list of mappings")
            return
        for name, entry in base.entries.items():
            top.inherited.setdefault(name, entry)


def _report_syntax(builder: _Builder, error: yaml.MarkedYAMLError) -> None:
    problem = (error.problem or "the YAML cannot be read").removesuffix(".")
    mark = error.problem_mark or error.context_mark
    index = mark.index if mark else 0
    text = builder.source.text
    is_open = problem.startswith(("did not find expected ','", "found unexpected"))
    if error.context_mark is not None and (is_open or not text[index:].strip()):
        index = error.context_mark.index
    known = next((known for known in _ADVICE if problem.startswith(known)), None)
    message, hint = _ADVICE[known] if known else (problem, "")
    line_end = text.find("\n", index)
    if "${" in text[text.rfind("\n", 0, index) + 1 : line_end if line_end >= 0 else len(text)]:
        hint = 'inside of { } and [ ] a variable needs quotes: "${NAME}"'
    if text[index : index + 1] == "\t" or _tab_indents(text, index):
        message, hint = "a tab is used for indentation", "YAML is indented with spaces"
        index = text.rfind("\n", 0, index) + 1 if text[index : index + 1] != "\t" else index
    builder.found.at(builder.source, index, "LJ101", shown(message), hint=hint)


def _tab_indents(text: str, index: int) -> bool:
    """True when the line that holds `index` starts with a tab (after blanks)."""
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    return re.compile(r" *\t").match(text, start) is not None
