r"""Comparing JSON records, and whole polls of them (`Snapshot`).

The functions are pure, any thread; the GIL is released while they work.

JSON-equal: strings by their characters however escaped, numbers as exact decimals (`1`, `1.0` and
`1e0` are one; nothing goes through a double; an exponent of more than 18 digits equals only its own
spelling), objects without regard to the order of their members, arrays element by element. A name
that an object holds twice counts twice, the n-th member of that name against the n-th: SQLite and
gjson read the first, most other parsers the last, and neither may miss a change.

Paths: `$` is the record, `.name` a member, `[3]` an element; a name that is not a plain identifier
is quoted as in SQLite's JSON functions, `$."odd name"`; the n-th member of one name (n > 1) is
`.name(n)`. In an object, members that were there come in their old order, then the added ones.
`{path: [before, after]}` holds the values' own JSON text; a missing one is null: an added field is
`[null, after]`, a removed one `[before, null]`. Where the text would grow far beyond the records
(long names above many changes) the record is reported as one change, `{"$": [before, after]}`.

`ignore`: up to 64 paths such as `fetched_at`, `meta.seen`, `items.#.rank` (each element), `tags.0`;
`\` escapes a dot. What such a path names is treated as absent. A bad one raises PathError.

Bad input raises JsonError with the byte offset: everything that is not strict JSON (NaN, lone
surrogates, invalid UTF-8, raw control characters...), deeper than `max_depth` (at most 1024), or
more than 1,000,000 values in one record.
"""

from collections.abc import Iterable, Sequence

def equal(a: bytes, b: bytes, max_depth: int = 64) -> bool:
    """Whether two JSON texts are JSON-equal."""

def changes(
    before: bytes, after: bytes, ignore: Sequence[str] = (), max_depth: int = 64
) -> bytes | None:
    """`{path: [before, after]}` as JSON, or None when the two are equal but for ignored paths."""

def record_hash(record: bytes, ignore: Sequence[str] = (), max_depth: int = 64) -> bytes:
    """16 bytes, equal for records between which `changes` sees no difference."""

def path_segments(path: str) -> list[str]:
    """The unescaped names of an ignore path. Raises PathError when it is not well formed."""

class Ignore:
    """Ignored paths in the form that native code reads; the functions make their own."""

    def __new__(cls, paths: Sequence[str] = ()) -> Ignore: ...

class Page:
    """One page of a poll, compared; keeps the body alive. Only what changed is a change in it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Raises TypeError: pages are made by Snapshot.compare."""

    def __len__(self) -> int:
        """Changes, superseded ones of duplicate keys included: the range of the positions below."""
    @property
    def records(self) -> int: ...
    @property
    def created(self) -> int: ...
    @property
    def updated(self) -> int: ...
    @property
    def unchanged(self) -> int: ...
    @property
    def duplicates(self) -> int:
        """Records whose key came before in this walk."""
    @property
    def keyless(self) -> int:
        """Records without a usable key: skipped; `keyless_reason` tells of the first."""
    @property
    def keyless_reason(self) -> str: ...
    @property
    def single(self) -> bool:
        """The response was one object, not an array."""
    def changes(self) -> list[tuple[bytes, bool, bytes]]:
        """(key, created or not, record) of every change; for tests and for showing a poll."""
    def updated_keys(self, start: int, stop: int) -> list[bytes]:
        """Keys of the updates among the changes [start, stop): what `pack` needs records of."""
    def chunk(self, start: int, max_bytes: int, max_records: int) -> int:
        """The stop of a chunk from `start` within both bounds; at least one change."""
    def pack(
        self,
        start: int,
        stop: int,
        *,
        topic: int,
        state: int,
        timestamp_ms: int,
        keep_records: bool,
        emit: bool,
        befores: list[bytes | None] | None = None,
    ) -> tuple[bytes, int, int]:
        """(row batch, rows, updates that the stored record already had) for changes [start, stop).

        Each change becomes an UPSERT of topic table `topic` (not without `emit`) and a STATE_UPSERT
        of table `state`, next to each other. With `befores` (in the order of `updated_keys`) an
        update carries its `changes`, and one that changes nothing only renews its state row.
        `keep_records`: the state row holds the record.
        """

class Snapshot:
    """Key -> record hash of an upstream, in native memory; one thread at a time.

    A poll: `begin`, `compare` each page, make the rows of its changes durable, `apply` them, and
    `finish` after the last page. A poll that fails half way is simply not finished: nothing that
    `apply` was not told of counts as known. About 75 bytes a record plus its key.
    """

    def __new__(
        cls,
        response: bytes,
        keys: Sequence[bytes],
        ignore: Sequence[str] = (),
        max_depth: int = 64,
        seed: int = 0,
        first_wins: bool = False,
    ) -> Snapshot:
        """`response`, `keys`: programs of gjson paths; `seed`: random, so keys cannot be made to
        collide; `first_wins`: of two records with one key in a walk the first stands.
        """
    def __len__(self) -> int:
        """Known records."""
    @property
    def memory_bytes(self) -> int: ...
    def load(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Add the stored (key, 16-byte hash) pairs."""
    def begin(self) -> None: ...
    def compare(self, body: bytes | bytearray | memoryview) -> Page:
        """Compare one page; the GIL is released. The body must not change while the page lives.

        Raises JsonError (with the byte) when the body is not strict JSON throughout, when the
        response path finds nothing or neither an array nor an object, or when a record has more
        than 1,000,000 values or 64 MiB.
        """
    def apply(self, page: Page, start: int, stop: int) -> None:
        """The rows of these changes are durable."""
    def finish(self) -> None: ...
    def missing(self) -> tuple[int, int]:
        """Known records this walk did not see: (newly, missed by the last complete one too)."""
    def missing_keys(self, agreed: bool) -> list[bytes]:
        """Their keys; `agreed`: only those that two complete walks missed."""
    def hold(self) -> None:
        """Remember what this complete walk missed."""
    def forget(self, keys: Sequence[bytes]) -> None:
        """The deletes of these keys are durable."""
