"""Restores data files that are missing from the replica.

Called under the directory's lock: by the start, before anything is opened, and by `litejoin
restore`. A file that is there is never replaced. Every file is fetched and checked beside its place
first; then a note of what is coming is written, the files are renamed into place, and `settle`
makes of them, each of its own moment, one directory. A crash at any point is gone on from.

    NAME.restoring    a file that is being fetched
    restore.json      names of the files that were about to be renamed; gone when all is settled
    restored.json     what the last restore found, for people
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import apsw

from litejoin.errors import CorruptionError, ReplicaError, StartRefusedError
from litejoin.replica.fetch import ASK_S, Found, Replica
from litejoin.store.catalogue import read_catalogue
from litejoin.store.files import make_directory, replace_file, sync_directory
from litejoin.store.layout import Layout, wal_of
from litejoin.store.manifest import Manifest, load_manifest
from litejoin.store.reshard import refuse_unfinished
from litejoin.store.shard import Identity, check_identity
from litejoin.store.sqlite import open_untouched

AT_ONCE = 4
"""Files fetched at once; each is fetched in up to 8 parts."""


@dataclass(frozen=True, slots=True)
class Target:
    """A directory to restore into, and the files of the configuration that belong there."""

    layout: Layout
    shard_count: int
    dlq: Path
    sources: Mapping[str, Path]
    """By name: the path that the configuration of Litestream knows the file by."""

    def path(self, name: str) -> Path:
        """Where a file belongs."""
        return self.dlq if name == "dlq.db" else self.layout.root / name

    def shard_names(self) -> list[str]:
        return [self.layout.shard(number).name for number in range(self.shard_count)]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came from the replica: the files in their places, nothing settled yet."""

    manifest: Manifest
    found: Mapping[str, Found | None]
    """By name. None: an earlier attempt put it there."""


def fetch_missing(target: Target, replica: Replica, say: Callable[[str], None]) -> Fetched | None:
    """Put what is missing into its place; None when nothing is, or the replica is empty, too.

    Raises StartRefusedError for files that do not belong together, or that cannot be had, and
    ReplicaError when the replica cannot be asked. The directory is as before then.
    """
    refuse_unfinished(target.layout)
    make_directory(target.layout.root)
    _remove_leftovers(target)
    pending = _pending(target.layout)
    local = _local_manifest(target)
    if local is not None and not local.created and not pending:
        return None  # a new directory, whose making goes on
    missing = _missing(target)
    if local is not None and not missing and not pending:
        return None
    remote = lineage(target, replica)
    if remote is None:
        _refuse_without_replica(target, local, missing)
        return None
    manifest = local or remote
    check_lineage(target, manifest, remote)
    _check_local(target, manifest)
    found = _look(target, replica, missing)
    if local is not None and not found and not pending:
        return None  # what is missing was never there
    say(f"fetching {len(found)} of {len(missing)} missing files from the replica")
    _fetch(target, replica, list(found))
    for name in found:
        _check_shard(target, manifest, name, target.path(name).with_name(name + ".restoring"))
    names = sorted({*found, *pending})
    _note_pending(target.layout, names)
    _put_in_place(target, list(found))
    return Fetched(manifest, {name: found.get(name) for name in names})


def lineage(target: Target, replica: Replica, timeout_s: float = ASK_S) -> Manifest | None:
    """Whose the replica is; None when it is empty. Raises ReplicaError, also when the answer does
    not come in time, and StartRefusedError.
    """
    path = target.layout.catalogue.with_name("catalogue.db.restoring")
    try:
        path.unlink(missing_ok=True)
        if not replica.fetch(target.sources["catalogue.db"], path, timeout_s):
            first = target.shard_names()[0]
            if replica.look(target.sources[first]) is None:
                return None
            raise StartRefusedError(f"the replica has {first} but no catalogue.db")
        return read_catalogue(path, target.layout)
    finally:
        for each in (path, wal_of(path), path.with_name(path.name + "-shm")):
            each.unlink(missing_ok=True)


def check_lineage(target: Target, local: Manifest, remote: Manifest) -> None:
    """Raises StartRefusedError when the replica is another directory's, or of other shards."""
    if local.epoch != remote.epoch:
        raise StartRefusedError(
            f"data_dir {target.layout.root} (epoch {local.epoch[:8]}) is not the directory that the"
            f" replica was made from (epoch {remote.epoch[:8]})",
            hint="give it a replica_url of its own; or move the directory away to restore that one",
        )
    if remote.shard_count != target.shard_count:
        raise StartRefusedError(
            f"the replica has {remote.shard_count} shards, the config says {target.shard_count}",
            hint=f"set storage.shard_count: {remote.shard_count}; after a reshard, set another"
            " replica_url",
        )


def _local_manifest(target: Target) -> Manifest | None:
    if not target.layout.manifest.exists():
        return None
    return load_manifest(target.layout, target.shard_count, files=False)


def _missing(target: Target) -> list[str]:
    names = [*target.shard_names(), target.layout.state.name, "dlq.db"]
    return [name for name in names if not target.path(name).exists()]


def _refuse_without_replica(target: Target, local: Manifest | None, missing: list[str]) -> None:
    shards = [name for name in missing if name.startswith("shard-")]
    if local is not None and shards:
        raise StartRefusedError(
            f"data_dir {target.layout.root} lacks {shards[0]} ({len(shards)} shards missing), and"
            " the replica is empty",
            hint="restore the file from a backup",
        )


def _check_local(target: Target, manifest: Manifest) -> None:
    for name in [*target.shard_names(), "state.db", "dlq.db"]:
        path = target.path(name)
        if path.exists():
            _check_shard(target, manifest, name, path)
        elif wal_of(path).exists():
            raise StartRefusedError(
                f"{path} is missing, but {wal_of(path).name} is there",
                hint="put the file back, or move its -wal and -shm away to restore the file",
            )


def _check_shard(target: Target, manifest: Manifest, name: str, path: Path) -> None:
    if not name.startswith("shard-"):
        return
    number = target.shard_names().index(name)
    try:
        connection = open_untouched(path, wal_of(path))
        try:
            check_identity(connection, path, Identity(number, manifest.epoch))
        finally:
            connection.close()
    except (apsw.Error, CorruptionError):
        if path.name != name:
            raise  # what was fetched must be sound; what is here is quarantined by the start


def _look(target: Target, replica: Replica, names: list[str]) -> dict[str, Found]:
    """What the replica has of the files. A shard must be among it."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looked = pool.map(lambda name: replica.look(target.sources[name]), names)
        found = dict(zip(names, looked, strict=True))
    for name, there in found.items():
        if there is None and name.startswith("shard-"):
            raise StartRefusedError(
                f"{name} is missing, and the replica has none",
                hint="restore the file from a backup",
            )
    return {name: there for name, there in found.items() if there is not None}


def _fetch(target: Target, replica: Replica, names: list[str]) -> None:
    def fetch(name: str) -> None:
        path = target.path(name).with_name(name + ".restoring")
        make_directory(path.parent)
        if not replica.fetch(target.sources[name], path):
            raise ReplicaError(f"the replica of {name} has gone meanwhile")
        path.chmod(0o600)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, names))


def _put_in_place(target: Target, names: Iterable[str]) -> None:
    for name in names:
        path = target.path(name)
        path.with_name(name + ".restoring").replace(path)
        sync_directory(path.parent)


def _remove_leftovers(target: Target) -> None:
    for name in [*target.shard_names(), "state.db", "dlq.db", "catalogue.db"]:
        path = target.path(name).with_name(name + ".restoring")
        for each in (path, wal_of(path), path.with_name(path.name + "-shm")):
            each.unlink(missing_ok=True)


def _pending(layout: Layout) -> list[str]:
    try:
        return [str(name) for name in json.loads(layout.restoring.read_bytes())]
    except FileNotFoundError:
        return []


def _note_pending(layout: Layout, names: list[str]) -> None:
    replace_file(layout.restoring, json.dumps(names).encode())


def done(layout: Layout) -> None:
    """All is settled."""
    layout.restoring.unlink(missing_ok=True)
    sync_directory(layout.root)
