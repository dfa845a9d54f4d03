from typing import NamedTuple

import apsw

class Verified(NamedTuple):
    rows: int
    bytes: int
    """Bytes of keys, payloads and changes or hashes."""
    last_id: int
    """Of the last row read; where the next call goes on."""

def verify_rows(
    connection: apsw.Connection, letter: str, table: int, after_id: int, limit: int
) -> Verified:
    """Compare up to `limit` rows after an id with their checksums. Blocks; releases the GIL.

    `letter`: t for the rows of topic <table>, d for its deleted keys, s for the state of a source.
    Raises CorruptionError, which names the row but not
    the shard, for the first row that is not what was written and for pages that cannot be read;
    StorageError when SQLite says something else.
    """

def read_states(connection: apsw.Connection, table: int, keys: list[bytes]) -> list[bytes | None]:
    """The payloads of these keys in s<table>, None where there is no row. Blocks; releases the GIL.

    Raises what `verify_rows` raises.
    """
