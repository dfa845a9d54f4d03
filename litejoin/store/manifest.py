"""The manifest: what a data directory is, and the catalogue of its topics and sources.

Physical tables are numbered, so a number, once given, belongs to its name for good. The file is
JSON and replaced atomically at each change. Loaded by the store at start and changed by it only; a
directory that does not match is refused and left as it is.
"""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from litejoin.errors import BadRowError, StartRefusedError
from litejoin.store.files import replace_file
from litejoin.store.layout import Layout

FORMAT_VERSION = 1
HASH_NAME = "fnv1a32"
MAX_TOPICS = 1000
"""A topic costs a table in every shard and statements in memory; pushes may create topics by
name. Those of the config do not fall under it: a sender must not keep it from growing.
"""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


@dataclass
class SourceEntry:
    """A source: the number of its state tables; `started` once its first poll was taken in."""

    number: int
    started: bool = False
    topic: str | None = None
    """Where an api source put the records that the tables know. None: it is no api source, or was
    not started since this is kept.
    """


@dataclass
class Manifest:
    """The manifest in memory. Changes are durable after `save`."""

    shard_count: int
    epoch: str
    """32 hex digits, new for every new directory: ids and SSE positions of another one differ."""
    created: bool = False
    """False until every shard file has been made: a crash in between may be continued."""
    topics: dict[str, int] = field(default_factory=dict)
    sources: dict[str, SourceEntry] = field(default_factory=dict)
    """By name; of a topic that is not the first one that a source filled, by `name/topic`."""
    is_unsaved: bool = False
    """The topic of an entry has become known."""

    def topic_numbers(self, names: Sequence[str], *, are_configured: bool = False) -> list[int]:
        """The numbers of topics, given out to those that are new: to all of them or to none.

        Raises BadRowError for a name that cannot have one, and unless they `are_configured` beyond
        MAX_TOPICS; `row` is then the place of the name.
        """
        before = dict(self.topics)
        numbers: list[int] = []
        for place, name in enumerate(names):
            try:
                numbers.append(self._topic_number(name, are_configured))
            except BadRowError as error:
                self.topics = before
                raise BadRowError(str(error), row=place, hint=error.hint) from None
        return numbers

    def _topic_number(self, name: str, is_configured: bool) -> int:
        number = self.topics.get(name)
        if number is None:
            _check_name(name, self.topics)
            if len(self.topics) >= MAX_TOPICS and not is_configured:
                raise BadRowError(
                    f"topic {name!r} would be number {MAX_TOPICS + 1:,}; a pipeline has at most"
                    f" {MAX_TOPICS:,} topics",
                    hint="use keys, not topics, to tell things apart",
                )
            number = self.topics[name] = 1 + max(self.topics.values(), default=0)
        return number

    def source(self, name: str, topic: str | None = None) -> SourceEntry:
        """The source's entry for a topic, made if it is new; without one, the first it had."""
        key = self.source_key(name, topic)
        if key not in self.sources:
            if key == name:
                _check_name(name, self.sources)
            top = max((entry.number for entry in self.sources.values()), default=0)
            self.sources[key] = SourceEntry(top + 1, topic=topic)
        elif topic is not None and self.sources[key].topic is None:
            self.sources[key].topic, self.is_unsaved = topic, True
        return self.sources[key]

    def source_key(self, name: str, topic: str | None) -> str:
        """Where in `sources` the entry is. What a source knows of the records in one topic says
        nothing of another: that one is filled anew, and when the config goes back, the first one is
        compared with what was last put there.
        """
        if topic is None:
            return name
        other, first = f"{name}/{topic}", self.sources.get(name)
        is_other = first is not None and first.topic not in (None, topic)
        return other if is_other or other in self.sources else name

    def save(self, path: Path) -> None:
        """Write the file durably. Blocks on the disk."""
        replace_file(path, self.text().encode())
        self.is_unsaved = False

    def text(self) -> str:
        """The file's content."""
        body = {
            "format": FORMAT_VERSION,
            "shard_count": self.shard_count,
            "hash": HASH_NAME,
            "epoch": self.epoch,
            "created": self.created,
            "topics": self.topics,
            "sources": {
                name: {"number": entry.number, "started": entry.started}
                | ({} if entry.topic is None else {"topic": entry.topic})
                for name, entry in self.sources.items()
            },
        }
        return json.dumps(body, indent=1) + "\n"


def manifest_of(layout: Layout, text: str) -> Manifest:
    """The manifest that a text holds, for the directory `layout`. Raises StartRefusedError."""
    return _parse(layout, _checked(layout, text.encode()))


def stored_shard_count(layout: Layout) -> int:
    """The number of shards that the directory was made with. Raises StartRefusedError."""
    return _parse(layout, _read(layout)).shard_count


def load_manifest(layout: Layout, shard_count: int, *, files: bool = True) -> Manifest:
    """The directory's manifest, or a new one (not saved yet) when the directory is empty. Without
    `files` it is not compared with the shard files.

    Raises StartRefusedError, having created nothing, when the directory is not one this version and
    configuration can use.
    """
    if files:
        _refuse_unsettled(layout)
    present = layout.shard_numbers()
    if not layout.manifest.exists():
        if present:
            raise _refusal(
                layout, f"has {len(present)} shard files but no manifest.json",
                "restore manifest.json from a backup; the shards are useless without its catalogue",
            )  # fmt: skip
        return Manifest(shard_count, uuid.uuid4().hex)
    manifest = _parse(layout, _read(layout))
    if manifest.shard_count != shard_count:
        raise _refusal(
            layout, f"was made with shard_count {manifest.shard_count}, not {shard_count}",
            f"set storage.shard_count: {manifest.shard_count}, or change the directory: litejoin"
            f" reshard --shards {shard_count}",
        )  # fmt: skip
    if not files:
        return manifest
    missing = sorted(set(range(shard_count)) - set(present))
    if manifest.created and missing:
        raise _refusal(
            layout, f"lacks {layout.shard(missing[0]).name} ({len(missing)} shards missing)",
            "restore the file from a backup",
        )  # fmt: skip
    extra = sorted(set(present) - set(range(shard_count)))
    if extra:
        raise _refusal(
            layout, f"has {layout.shard(extra[0]).name}, not one of its {shard_count} shards",
            "move the file away if it does not belong here",
        )  # fmt: skip
    return manifest


def _refuse_unsettled(layout: Layout) -> None:
    if layout.restoring.exists():
        raise _refusal(
            layout, "has files that were restored, each of its own moment, and the restore did"
            " not end", "run litejoin restore again",
        )  # fmt: skip


def _refusal(layout: Layout, what: str, hint: str) -> StartRefusedError:
    return StartRefusedError(f"data_dir {layout.root} {what}", hint=hint)


def _read(layout: Layout) -> dict[str, object]:
    try:
        return _checked(layout, layout.manifest.read_bytes())
    except OSError as error:
        raise _refusal(
            layout, f"has an unreadable manifest.json: {error}", "restore it from a backup"
        ) from error


def _checked(layout: Layout, text: bytes) -> dict[str, object]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refusal(
            layout, f"has an unreadable manifest.json: {error}", "restore it from a backup"
        ) from error
    if not isinstance(body, dict):
        raise _refusal(layout, "has a manifest.json that is no object", "restore it from a backup")
    if body.get("format") != FORMAT_VERSION or body.get("hash") != HASH_NAME:
        raise _refusal(
            layout,
            f"has format {body.get('format')!r} with hash {body.get('hash')!r}; this version"
            f" reads format {FORMAT_VERSION} with {HASH_NAME}",
            "use the version that made it, or a new data_dir",
        )
    return body


def _parse(layout: Layout, body: dict[str, object]) -> Manifest:
    try:
        topics, sources = body["topics"], body["sources"]
        if not isinstance(topics, dict) or not isinstance(sources, dict):
            raise TypeError("topics and sources are objects")
        return Manifest(
            shard_count=_number(body["shard_count"]),
            epoch=uuid.UUID(str(body["epoch"])).hex,
            created=body["created"] is True,
            topics={str(name): _number(number) for name, number in topics.items()},
            sources={
                str(name): SourceEntry(
                    _number(entry["number"]), entry["started"] is True, _topic(entry.get("topic"))
                )
                for name, entry in sources.items()
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _refusal(
            layout, f"has a damaged manifest.json: {error!r}", "restore it from a backup"
        ) from error


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise ValueError(f"{value!r} is not a number from 1 to 65535")
    return value


def _topic(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no topic")
    return value


def _check_name(name: str, taken: dict[str, int] | dict[str, SourceEntry]) -> None:
    if not NAME.fullmatch(name) or name.lower().startswith("sqlite_"):
        raise BadRowError(
            f"{name[:140]!r} is not a name: letters, digits, '_', '.', '-', at most 128,"
            " starting with a letter or '_', not with sqlite_"
        )
    for other in taken:
        if other.lower() == name.lower():
            raise BadRowError(f"{name!r} differs from {other!r} only in case")
