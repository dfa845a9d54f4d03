r"""Comparing JSON records. Pure functions, any thread; the GIL is released while they work.

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

from collections.abc import Sequence

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
