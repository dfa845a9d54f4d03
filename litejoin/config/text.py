"""How findings quote what a config says: short, on one line, harmless on a terminal."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_SHOWN = 80
"""Characters of a quoted text; a message is read in a terminal line or two."""

_MAX_COMPARED = 64
"""Longer texts are no misspelt keys; comparing them costs time that a hostile file would use."""


def shown(text: str) -> str:
    """The text on one line: cut, control and direction characters escaped."""
    cut = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
    return printable(cut)


def printable(text: str, instead: str | None = None) -> str:
    """The text with control and direction characters escaped, or replaced by `instead`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else instead or _escaped(c) for c in text)


def _escaped(character: str) -> str:
    names = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    number = ord(character)
    if character in names:
        return names[character]
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def suggestion(text: str, known: Iterable[str]) -> str | None:
    """The known text that was probably meant, or None."""
    if len(text) > _MAX_COMPARED:
        return None
    by_plain = {_plain(name): name for name in known}
    if _plain(text) in by_plain:
        return by_plain[_plain(text)]
    near = get_close_matches(_plain(text), by_plain, n=1, cutoff=0.6)
    return by_plain[near[0]] if near else None


def _plain(text: str) -> str:
    """Without case, hyphens and underscores: `shardCount` means `shard_count`."""
    return text.lower().replace("-", "").replace("_", "").replace(" ", "")


def listed(names: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    parts = list(names)
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"
