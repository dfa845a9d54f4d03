"""`--set PATH=VALUE`: replaces or adds one value of the tree, before expansion and validation.

A path is keys joined by dots; list items by index or by the `name` of the item:
`storage.shard_count=4`, `sources[0].api.interval=5s`, `sources[weather].api.url=...`. The value is
read as YAML. Findings about it name the option as their file.
"""

import re

from litejoin.config.diagnostics import Diagnostics
from litejoin.config.load import MAX_DEPTH, load_text
from litejoin.config.nodes import Entry, Mapping, Node, Scalar, Sequence, Source
from litejoin.config.text import shown

_STEP = re.compile(r"\.?([^.\[\]=]+)|\[([^\]]+)\]")


def apply_override(root: Node, text: str, found: Diagnostics) -> None:
    """Apply one `PATH=VALUE` to the tree, in place; a finding when it cannot be."""
    path, equals, value_text = text.partition("=")
    # The option is its own source: positions are those within `--set`'s argument.
    source = Source(f"--set {shown(path)}", text)
    steps = _steps(path)
    if not equals or not steps:
        found.at(source, 0, "LJ133", f'"{shown(text)}" is not PATH=VALUE', hint=_EXAMPLE)
        return
    if len(steps) > MAX_DEPTH:
        found.at(source, 0, "LJ122", f"the path has more than {MAX_DEPTH} steps")
        return
    value = _value(source.name, value_text, found)
    target = _descend(root, steps[:-1], source, found) if value else None
    if value is not None and target is not None:
        _put(target, steps[-1], value, source, found)


_EXAMPLE = "such as storage.shard_count=4 or sources[0].api.interval=5s"


def _steps(path: str) -> list[str]:
    steps: list[str] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (at == 0 and path.startswith(".")):
            return []
        steps.append(match[1] or match[2])
        at = match.end()
    return steps


def _value(name: str, text: str, found: Diagnostics) -> Node | None:
    if not text.strip():
        source = Source(name, text)
        return Scalar(source, 0, 0, "", plain=False, style="'")
    return load_text(name, text, found)


def _descend(root: Node, steps: list[str], source: Source, found: Diagnostics) -> Node | None:
    node: Node | None = root
    for step in steps:
        if isinstance(node, Mapping):
            entry = node.entries.get(step)
            if entry is None:
                entry = node.entries[step] = Entry(_key(step, source), Mapping(source, 0, 0))
            node = entry.value
        else:
            index = _index(node, step)
            node = node.items[index] if isinstance(node, Sequence) and index is not None else None
        if node is None:
            message = f'there is no "{shown(step)}" to go into'
            found.at(source, 0, "LJ133", message, hint="list items go by index or by name")
            return None
    return node


def _put(target: Node, step: str, value: Node, source: Source, found: Diagnostics) -> None:
    if isinstance(target, Mapping):
        known = target.entries.get(step)
        target.entries[step] = Entry(known.key if known else _key(step, source), value)
        return
    index = _index(target, step)
    if isinstance(target, Sequence) and index is not None:
        target.items[index] = value
        return
    found.at(source, 0, "LJ133", f'there is no "{shown(step)}" to set')


def _key(step: str, source: Source) -> Scalar:
    return Scalar(source, 0, len(step), step, plain=True, style=None)


def _index(node: Node | None, step: str) -> int | None:
    """Index of the item that a step means: a number, or the item's name."""
    if not isinstance(node, Sequence):
        return None
    if step.isdecimal() and len(step) < 6:
        return int(step) if int(step) < len(node.items) else None
    for index, item in enumerate(node.items):
        entry = item.entries.get("name") if isinstance(item, Mapping) else None
        if entry and isinstance(entry.value, Scalar) and entry.value.written == step:
            return index
    return None
