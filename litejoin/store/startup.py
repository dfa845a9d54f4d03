"""Opens the shards of a data directory, and judges what it finds there.

Called by the store at start. What cannot be (another directory's file, no file) refuses the start
and changes nothing; a file that is damaged is quarantined: it is left as it is, and an empty shard
in memory stands where its connection would. When all of them are damaged the start is refused,
since nothing could run.
"""

from collections.abc import Sequence

import apsw

from litejoin.errors import CorruptionError, StartRefusedError
from litejoin.store import shard as shards
from litejoin.store.layout import Layout
from litejoin.store.manifest import Manifest
from litejoin.store.marks import SavedMarks, lost_tails
from litejoin.store.quarantine import Quarantine
from litejoin.store.sqlite import open_memory
from litejoin.store.verify import look


def open_shards(
    layout: Layout,
    manifest: Manifest,
    synchronous: shards.Synchronous,
    quarantine: Quarantine,
    opened: list[apsw.Connection],
    *,
    keeps_logs: bool = False,
) -> None:
    """Append the writing connection of every shard to `opened`, in order; see shard.open_writer.

    Raises StartRefusedError; what was opened until then is in `opened`.
    """
    for number in range(manifest.shard_count):
        identity = shards.Identity(number, manifest.epoch)
        if number not in quarantine.shards:
            try:
                create = not manifest.created
                connection = shards.open_writer(
                    layout.shard(number),
                    identity,
                    synchronous,
                    create=create,
                    keeps_log=keeps_logs,
                )
            except CorruptionError as error:
                quarantine.take(error)
            else:
                opened.append(connection)
                continue
        opened.append(stand_in(identity))
    refuse_if_all(layout, manifest, quarantine)


def stand_in(identity: shards.Identity) -> apsw.Connection:
    """An empty shard in memory: whatever is not told of the quarantine finds nothing in it."""
    connection = open_memory()
    shards.initialize(connection, identity)
    return connection


def refuse_if_all(layout: Layout, manifest: Manifest, quarantine: Quarantine) -> None:
    """Raise StartRefusedError when no shard is left."""
    if len(quarantine.shards) < manifest.shard_count:
        return
    reasons = quarantine.reasons()
    raise StartRefusedError(
        f"data_dir {layout.root}: every shard is damaged; shard 0: {reasons[0]}",
        hint="litejoin check --deep says what can be read; restore the directory from a backup",
    )


def judge_marks(
    saved: SavedMarks | None,
    found: Sequence[int],
    quarantine: Quarantine,
) -> list[str]:
    """Quarantine every shard that lacks commits it had; what is to be said besides."""
    if saved is None:
        lines = ["marks was missing: of commits lost before this start only state.db tells"]
        return lines if any(found) else []
    notices = []
    for shard, line in lost_tails(saved, list(found)).items():
        if shard in quarantine.shards:
            continue
        if saved.synced or saved.same_boot:
            quarantine.add(shard, line)
        else:
            notices.append(f"shard {shard} {line} (power loss with synchronous: normal)")
    return notices


def look_at(connections: Sequence[apsw.Connection], quarantine: Quarantine) -> None:
    """Read what is newest in each shard; damage is quarantined. Milliseconds."""
    for number, connection in enumerate(connections):
        if number not in quarantine.shards:
            try:
                look(connection, number)
            except CorruptionError as error:
                quarantine.take(error)
