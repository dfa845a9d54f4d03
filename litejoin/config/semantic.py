"""Checks of what the parts of a config mean to each other; everything that needs no SQL.

Called by `check` with the repaired document, so values have their types. Names are taken from the
file's own nodes, so that a sink with a mistake in it still counts as a sink.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from litejoin.config.diagnostics import Diagnostics, find, pointer_of
from litejoin.config.document import Document
from litejoin.config.effects import check_effects
from litejoin.config.files import check_files
from litejoin.config.kafka import check_kafka, is_topic
from litejoin.config.nodes import Mapping, Node, Scalar, Sequence
from litejoin.config.placeholders import check_placeholders
from litejoin.config.shape import is_nothing
from litejoin.config.spans import check_slide
from litejoin.config.text import listed, shown, suggestion
from litejoin.config.uses import used_sinks
from litejoin.config.values import parse_duration_ms

_SQL_WORDS = frozenset(
    "add all alter and as autoincrement between case check collate commit constraint create "
    "default deferrable delete distinct drop else escape except exists foreign from group "
    "having in index insert intersect into is isnull join limit nothing not notnull null on "
    "or order primary references returning select set table then to transaction union "
    "unique update using values when where cross full inner left natural outer right".split()
)
"""Words that SQLite does not take as the name of a table without quotes."""

CLOUD_OPTIONS = {
    "s3": {name: name for name in ("access_key_id", "secret_access_key", "session_token")},
    "gcs": {"service_account_file": "service_account"},
    "azure": {"account_name": "account_name", "account_key": "account_key", "sas_token": "sas_key"},
}
"""Credentials of each provider: the key of the config, and obstore's name for it."""


def check_meaning(document: Document, root: Node, found: Diagnostics) -> None:
    """Add a finding for everything that does not go together."""
    names = _names(root)
    _check_names(names, found)
    _check_topics(document, names, found)
    _check_sinks(document, root, names, found)
    for index, source in enumerate(document.value["sources"]):
        if source["type"] == "api":
            _check_api(document, f"/sources/{index}/api", source["api"], found)
    for index, window in enumerate(document.value["windows"]):
        _check_window(document, f"/windows/{index}", window, found)
    _check_storage(document, found)
    check_effects(document, found)
    check_files(document, found)
    check_kafka(document, found)
    if document.fed_topics is not None:
        _check_unfed(document, root, document.fed_topics, found)


class Named(NamedTuple):
    """The name of a source, join, window or sink as written, and where it is."""

    name: str
    node: Scalar
    pointer: str


def _names(root: Node) -> dict[str, list[Named]]:
    """The names of all sources, joins, windows and sinks."""
    return {section: list(_names_in(root, section)) for section in _SECTIONS}


_SECTIONS = {"sources": "source", "joins": "join", "windows": "window", "sinks": "sink"}


def _names_in(root: Node, section: str) -> Iterator[Named]:
    entry = root.entries.get(section) if isinstance(root, Mapping) else None
    items = entry.value.items if entry and isinstance(entry.value, Sequence) else []
    for at, item in enumerate(items):
        name = item.entries.get("name") if isinstance(item, Mapping) else None
        if name and isinstance(name.value, Scalar) and not name.value.unknown:
            yield Named(name.value.text, name.value, f"/{section}/{at}/name")


def _check_names(names: dict[str, list[Named]], found: Diagnostics) -> None:
    for group in (("sources",), ("joins", "windows"), ("sinks",)):
        first: dict[str, tuple[str, Scalar]] = {}
        for section in group:
            for name, node, pointer in names[section]:
                kind = _SECTIONS[section]
                known = first.setdefault(name.lower(), (kind, node))
                if known[1] is not node:
                    line = known[1].place.line
                    message = f'the name "{shown(name)}" is used by the {known[0]} in line {line}'
                    hint = "upper and lower case count as equal" if name != known[1].text else ""
                    found.node(node, "LJ201", message, hint=hint, pointer=pointer)


def _check_topics(document: Document, names: dict[str, list[Named]], found: Diagnostics) -> None:
    windows = {window.name.lower() for window in names["windows"]}
    spelled: dict[str, str] = {}
    for pointer, topic in _topics(document):
        if topic.lower() in windows:
            message = f'the topic "{topic}" has the name of a window; queries could mean either'
            found.add(document.finding("LJ202", pointer, message))
        first = spelled.setdefault(topic.lower(), topic)
        if first != topic:
            message = f'the topic "{topic}" differs from "{first}" in upper and lower case only'
            found.add(document.finding("LJ201", pointer, message))
        needs_quotes = topic.lower() in _SQL_WORDS or not topic.isidentifier()
        if needs_quotes and not _is_quoted(topic, document):
            message = f'the topic "{topic}" needs quotes in queries'
            hint = f'write FROM "{topic}"'
            found.add(document.finding("LJ209", pointer, message, hint=hint))


def _is_quoted(topic: str, document: Document) -> bool:
    """True when a query writes the topic in quotes already."""
    name = topic.lower()
    written = (f'"{name}"', f"[{name}]", f"`{name}`")
    readers = (*document.value["joins"], *document.value["windows"])
    return any(quoted in str(r["query"]).lower() for r in readers for quoted in written)


def _topics(document: Document) -> Iterator[tuple[str, str]]:
    """Every topic that a source names, with its pointer; the first place of each spelling."""
    seen: set[str] = set()
    for at, source in enumerate(document.value["sources"]):
        places = [(f"/sources/{at}/topic", source.get("topic"))]
        for index, topic in enumerate(source.get("topics", ())):
            mapped = source["config"].get("topic_map", {}).get(topic, topic)
            if not is_topic(mapped):
                continue  # LJ230 says what is missing
            places.append((f"/sources/{at}/topics/{index}", mapped))
        for pointer, topic in places:
            if topic is not None and topic not in seen:
                seen.add(topic)
                yield pointer, topic


def unfed(topic: str, fed: Collection[str]) -> tuple[str, str]:
    """Message and hint about a topic that no source feeds; `fed` are those that are."""
    near = suggestion(topic, fed)
    guess = f' (did you mean "{near}"?)' if near else ""
    hint = f"fed are {', '.join(sorted(fed)[:10])}" if fed else ""
    return f'no source feeds the topic "{shown(topic)}"{guess}', hint


def _check_unfed(document: Document, root: Node, fed: Collection[str], found: Diagnostics) -> None:
    """Topics that are named outside of queries; those of queries are found when they compile."""
    known = {topic.lower() for topic in fed}
    for at, window in enumerate(document.value["windows"]):
        if window["topic"].lower() not in known:
            message, hint = unfed(window["topic"], fed)
            found.add(document.finding("LJ217", f"/windows/{at}/topic", message, hint=hint))
    for at, source in enumerate(document.value["sources"]):
        parent = source.get("api", {}).get("for_each", {}).get("topic")
        if parent is not None and parent.lower() not in known:
            message, hint = unfed(parent, fed)
            pointer = f"/sources/{at}/api/for_each/topic"
            found.add(document.finding("LJ217", pointer, message, hint=hint))
    settings = find(root, ["topics"])
    for name, entry in settings.entries.items() if isinstance(settings, Mapping) else ():
        if name.lower() not in known and is_topic(name):
            message, hint = unfed(name, fed)
            pointer = pointer_of(("topics", name))
            found.node(entry.key, "LJ217", message, hint=hint, pointer=pointer)


def _all_named(root: Node, section: str) -> bool:
    """False when an item has no name that can be read: any name could be its."""
    entry = root.entries.get(section) if isinstance(root, Mapping) else None
    items = entry.value.items if entry and isinstance(entry.value, Sequence) else None
    if items is None:
        return entry is None or is_nothing(entry.value)
    return len(list(_names_in(root, section))) == len(items)


def _check_sinks(
    document: Document, root: Node, names: dict[str, list[Named]], found: Diagnostics
) -> None:
    known = {sink.name for sink in names["sinks"]}
    all_named = _all_named(root, "sinks")
    for pointer, name in _sink_uses(document):
        if name in known or not all_named or document.is_unknown(pointer):
            continue
        near = suggestion(name, known)
        told = f' (did you mean "{near}"?)' if near else ""
        hint = f"sinks are {', '.join(sorted(known)[:10])}" if known else "there are no sinks"
        message = f'unknown sink "{shown(name)}"{told}'
        found.add(document.finding("LJ203", pointer, message, hint=hint))
    used = used_sinks(root)
    for name, node, pointer in names["sinks"]:
        if used is not None and name not in used:
            message = f'no join and no window sends to the sink "{shown(name)}"'
            hint = "name it in a join's sink, or remove it"
            found.node(node, "LJ204", message, hint=hint, pointer=pointer)


def _sink_uses(document: Document) -> Iterator[tuple[str, str]]:
    for section in ("joins", "windows"):
        for at, item in enumerate(document.value[section]):
            for key in ("sink", "late_sink"):
                if key in item:
                    yield f"/{section}/{at}/{key}", item[key]
            for index, name in enumerate(item.get("sinks", ())):
                yield f"/{section}/{at}/sinks/{index}", name


def _check_api(document: Document, pointer: str, api: dict[str, Any], found: Diagnostics) -> None:
    strategy = api["watermark"]["strategy"]
    is_filtered = strategy in ("timestamp", "cursor")
    if is_filtered and api["detect_deletes"] and "full_sweep_interval" not in api:
        message = f"detect_deletes cannot work with the watermark strategy {strategy}: "
        message += "a filtered fetch does not show what is gone"
        hint = "add full_sweep_interval, or switch one of the two off"
        where = f"{pointer}/detect_deletes"
        found.add(document.finding("LJ207", where, message, hint=hint))
    for section, low, high in (
        ("retry", "backoff", "max_backoff"),
        ("adaptive", "min_interval", "max_interval"),
    ):
        if section in api:
            _check_order(document, f"{pointer}/{section}", low, high, found)
    if is_filtered:
        _need_one(document, f"{pointer}/watermark", ("param", "header", "body_path"), found)
    if api["pagination"]["type"] == "cursor":
        _need_one(document, f"{pointer}/pagination", ("param", "body_path"), found)
    check_placeholders(document, pointer, api, found)


def _check_order(document: Document, pointer: str, low: str, high: str, found: Diagnostics) -> None:
    values = document.get(pointer)
    if parse_duration_ms(values[low]) <= parse_duration_ms(values[high]):
        return
    key = low if document.has(f"{pointer}/{low}") else high
    message = f"{low} ({shown(values[low])}) is longer than {high} ({shown(values[high])})"
    found.add(document.finding("LJ208", f"{pointer}/{key}", message))


def _need_one(document: Document, pointer: str, keys: tuple[str, ...], found: Diagnostics) -> None:
    # In the file: a key with a bad value is there, too.
    if not any(document.has(f"{pointer}/{key}") for key in keys):
        quoted = listed(f'"{key}"' for key in keys)
        name = pointer.rpartition("/")[2]
        found.add(document.finding("LJ114", pointer, f"{name} needs {quoted}"))


def _check_window(
    document: Document, pointer: str, window: dict[str, Any], found: Diagnostics
) -> None:
    if window["type"] == "sliding":
        size, slide = window["size"], window["slide"]
        if parse_duration_ms(slide) > parse_duration_ms(size):
            message = f"slide ({shown(slide)}) is larger than size ({shown(size)})"
            hint = "messages between two windows would be in none"
            found.add(document.finding("LJ206", f"{pointer}/slide", message, hint=hint))
        check_slide(document, pointer, window, found)
    if window["on_late"] == "sink" and "late_sink" not in window:
        found.add(document.finding("LJ114", f"{pointer}/on_late", 'on_late needs "late_sink"'))
    if window["on_late"] != "sink" and "late_sink" in window:
        message = "late_sink needs on_late: sink"
        found.add(document.finding("LJ114", f"{pointer}/late_sink", message))


def _check_storage(document: Document, found: Diagnostics) -> None:
    _check_order(document, "/delivery/dlq", "retry_interval", "max_backoff", found)
    if document.get("/replication/enabled"):
        _need_one(document, "/replication", ("replica_url",), found)
    _check_archive(document, found)
    if document.get("/storage/archive/cloud/enabled"):
        _need_one(document, "/storage/archive/cloud", ("bucket",), found)
        _check_credentials(document, found)


def _check_archive(document: Document, found: Diagnostics) -> None:
    """An archive or a bucket that nothing ever reaches."""
    pointer = "/storage/archive"
    settings = document.get("/topics", {})
    expires = "duration" in document.get("/retention", {}) or any(
        "retention" in topic for topic in settings.values()
    )
    if document.get(f"{pointer}/enabled"):
        if not expires and document.complete:
            message = "no topic has a retention, so no row ever goes to the archive"
            hint = "set retention.duration, or the retention of a topic"
            found.add(document.finding("LJ223", f"{pointer}/enabled", message, hint=hint))
    elif document.get(f"{pointer}/cloud/enabled"):
        message = "the archive is off, so no file is ever copied"
        hint = "set storage.archive.enabled: true"
        found.add(document.finding("LJ223", f"{pointer}/cloud/enabled", message, hint=hint))


def _check_credentials(document: Document, found: Diagnostics) -> None:
    """A key that the provider does not take would be passed over silently."""
    pointer = "/storage/archive/cloud"
    provider = document.get(f"{pointer}/provider")
    for owner, keys in CLOUD_OPTIONS.items():
        for key in keys if owner != provider else ():
            if document.has(f"{pointer}/{key}"):
                message = f"{key} belongs to provider: {owner}, not {provider}"
                found.add(document.finding("LJ114", f"{pointer}/{key}", message))
