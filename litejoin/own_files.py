"""Which files are a pipeline's own: no sink may write them, nor may the dead-letter queue be there.

Used by the config's checks, on paths as they are written, and by sinks, on those that the disk
resolves. Looks at no disk itself.
"""

import re
from pathlib import PurePath

_FILE = re.compile(
    r"(lock|marks|litestream\.yml|(manifest|quarantine|restore|restored)\.json)(\.tmp)?"
    r"|(state|catalogue|dlq|shard-.*)\.db.*"
)
"""Names in data_dir, also those beside a database (-wal) and of a file on its way (.tmp)."""

_FOLDER = re.compile(r"archive|reshard|\.(state|catalogue|dlq|shard-.*)\.db-litestream")

_BESIDE_DATABASE = ("", "-wal", "-shm", "-journal")


def is_stored(path: PurePath, data_dir: PurePath) -> bool:
    """True for a path that the pipeline keeps its data at, or could. Both are of one kind: as
    written and normalized, or resolved.
    """
    if not path.is_relative_to(data_dir):
        return False
    first, *rest = path.relative_to(data_dir).parts or ("",)
    return bool(_FOLDER.fullmatch(first)) or (not rest and bool(_FILE.fullmatch(first)))


def is_of_database(path: PurePath, database: PurePath) -> bool:
    """True for a database of SQLite's and what it keeps beside it."""
    return path in [database.with_name(database.name + end) for end in _BESIDE_DATABASE]
