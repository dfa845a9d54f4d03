"""What a config names, by the file's own nodes: parts with mistakes in them count as well.

Used for findings about what is missing (a topic nobody feeds, a sink nobody uses), which would be
false when a name stands in a part that was taken out for a mistake. None says that the names cannot
be known: one is misspelt, an unset variable, or not there.
"""

from litejoin.config.kafka import is_topic
from litejoin.config.nodes import Mapping, Node, Scalar, Sequence
from litejoin.config.shape import is_nothing


def fed_topics(root: Node) -> list[str] | None:
    """The topics that sources feed, in their order; None also when one takes any topic."""
    topics: list[str] = []
    for source in _items(root, "sources") or ():
        renamed = _at(_at(source, "config"), "topic_map")
        names = _texts(source, "topic", "topics")
        if not names:
            return None
        for name in names:
            mapped = _text(_at(renamed, name)) if _at(renamed, name) else name
            if mapped is None or not is_topic(mapped):
                return None
            topics.append(mapped)
    return list(dict.fromkeys(topics)) or None


def used_sinks(root: Node) -> set[str] | None:
    """The sinks that joins and windows send to."""
    used: set[str] = set()
    for section in ("joins", "windows"):
        items = _items(root, section)
        if items is None:
            return None
        for item in items:
            names, late = _texts(item, "sink", "sinks"), _texts(item, "late_sink")
            if not names or late is None:
                return None
            used.update(names, late)
    return used


def result_names(root: Node) -> list[str]:
    """The names of joins and windows, which queries can read; "" for one that cannot be known."""
    return [
        "".join(_texts(item, "name") or ())
        for section in ("joins", "windows")
        for item in _items(root, section) or ()
    ]


def _items(root: Node, section: str) -> list[Node] | None:
    """The items of a section, none when it is not there; None when it is no list."""
    node = _at(root, section)
    if node is None or is_nothing(node):
        return []
    return node.items if isinstance(node, Sequence) else None


def _texts(item: Node, *keys: str) -> list[str] | None:
    """The texts of some keys, each a text or a list of them."""
    texts: list[str] = []
    for node in filter(None, (_at(item, key) for key in keys)):
        for each in node.items if isinstance(node, Sequence) else (node,):
            text = _text(each)
            if text is None:
                return None
            texts.append(text)
    return texts


def _text(node: Node | None) -> str | None:
    if not isinstance(node, Scalar) or node.unknown or is_nothing(node):
        return None
    return node.text


def _at(node: Node | None, key: str) -> Node | None:
    entry = node.entries.get(key) if isinstance(node, Mapping) else None
    return entry.value if entry else None
