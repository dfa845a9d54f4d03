"""Looks at a data directory without touching it, also while a daemon runs on it.

Called by `litejoin plan --diff-data-dir`. Takes no lock, opens every file read-only and leaves no
file behind. What it says was true at one moment of each file.
"""

import json
import os
from pathlib import Path

import apsw

from litejoin.errors import StartRefusedError
from litejoin.plan.nodes import Deployed
from litejoin.store.layout import Layout, wal_of
from litejoin.store.manifest import Manifest, load_manifest
from litejoin.store.sqlite import open_untouched


def peek(root: Path, shard_count: int, dlq: Path) -> Deployed:
    """What ran in a data directory last; nothing for one that does not exist or is empty.

    `dlq` is the file of the dead-letter queue. Raises StartRefusedError where `run` would: another
    shard count, a file that is missing or cannot be read. Blocks for milliseconds.
    """
    layout = Layout(root)
    manifest = load_manifest(layout, shard_count)
    if not manifest.created:
        return Deployed(f"{root}, which is new", (), frozenset(), (), {}, None, is_new=True)
    return Deployed(
        text=f"{root}, {manifest.shard_count} shards",
        topics=tuple(manifest.topics),
        timed_topics=_timed(layout, manifest),
        sources=_started(manifest),
        filled=_filled(manifest),
        joins=_joins(layout),
        sinks=_sinks(dlq, manifest.epoch),
        with_results=_joins_with_results(layout),
        notes=_notes(layout),
    )


def _started(manifest: Manifest) -> tuple[str, ...]:
    keys = (key for key, entry in manifest.sources.items() if entry.started)
    return tuple(dict.fromkeys(key.partition("/")[0] for key in keys))


def _filled(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, entry in manifest.sources.items():
        if entry.started and entry.topic is not None:
            name = key.partition("/")[0]
            found[name] = (*found.get(name, ()), entry.topic)
    return found


def _timed(layout: Layout, manifest: Manifest) -> frozenset[str]:
    rows = _rows(layout.shard(0), "SELECT name FROM sqlite_schema WHERE type = 'index'")
    present = {str(name) for (name,) in rows}
    topics = manifest.topics.items()
    return frozenset(name.lower() for name, number in topics if f"t{number}_time" in present)


def _joins(layout: Layout) -> dict[str, str]:
    if not layout.state.exists():
        return {}
    rows = _rows(layout.state, "SELECT name, definition FROM joins WHERE definition <> ''")
    return {str(name): str(definition) for name, definition in rows}


def _joins_with_results(layout: Layout) -> frozenset[str]:
    if not layout.state.exists():
        return frozenset()
    query = "SELECT name FROM joins WHERE EXISTS(SELECT 1 FROM state WHERE join_id = joins.id)"
    return frozenset(str(name) for (name,) in _rows(layout.state, query))


def _sinks(dlq: Path, epoch: str) -> tuple[str, ...] | None:
    """The sinks that were delivered to; cursors of another directory's results do not count."""
    if not dlq.exists():
        return None
    if ("epoch", epoch) not in _rows(dlq, "SELECT name, value FROM meta"):
        return None
    return tuple(str(sink) for (sink,) in _rows(dlq, "SELECT sink FROM cursors ORDER BY sink"))


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    try:
        connection = open_untouched(path, wal_of(path))
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
    except apsw.Error as error:
        raise StartRefusedError(
            f"cannot read {path}: {error}", hint="check that it is a file of LiteJoin and its owner"
        ) from error


def _notes(layout: Layout) -> tuple[str, ...]:
    """Who holds the directory. Tells from the lock file's text: taking the lock, for a moment even,
    could refuse a daemon that starts right then.
    """
    try:
        held = json.loads(layout.lock.read_bytes())
        pid, pipeline = int(held["pid"]), str(held["pipeline"])
        os.kill(pid, 0)
    except PermissionError:
        pass  # it lives, and is another user's
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return (
        f"process {pid} (pipeline {pipeline:.128}) seems to use the directory: stop it before this"
        " config is run on it",
    )
