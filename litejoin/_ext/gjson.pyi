r"""gjson paths over JSON bytes: `data.items`, `items.0.id`, `items.#.id`, `#(kind=="a").id`.

Names with `\\` escapes and the wildcards `*` and `?`; indexes; `#` (count, or every element when
more follows); queries `#(path op value)` for the first match and `#(...)#` for all, with == != < <=
> >= % !% (numbers compared exactly, `%` with wildcards) and nested queries; `|`, which unlike `.`
goes on from the whole array that `#` collected; @this @reverse @keys @values @flatten @fromstr. Of
members with one name the first counts. Not supported, and said so by PathError: multipaths,
literals, `~`, modifiers with arguments, other modifiers.
"""

from collections.abc import Sequence

class Path:
    """A compiled path; immutable, any thread."""

    def __new__(cls, text: str) -> Path: ...
    @property
    def text(self) -> str:
        """As it was written."""
    @property
    def program(self) -> bytes:
        """The compiled form that the native set diff takes."""
    def get(
        self, document: bytes | bytearray | memoryview, max_depth: int = 64, *, judged: bool = False
    ) -> bytes | None:
        """The JSON text of what the path finds, or None.

        `judged`: the document is known to be strict JSON, and is not validated again. Raises
        JsonError with the byte offset when it is not.
        """

def compile_path(text: str) -> Path:
    """Compile a path; raises PathError (a ValueError) with the offset of what is wrong."""

def outline(document: bytes | bytearray | memoryview, most: int) -> bytes:
    """A document that is strict JSON, with `[]` instead of each array of more than `most` bytes.

    What paths of names lead to is the same in it, and far quicker found.
    """

def split(array: bytes, max_depth: int = 64) -> list[tuple[int, int]]:
    """(start, end) of each element of a JSON array. Raises JsonError."""

def key_of(record: bytes, paths: Sequence[Path]) -> bytes:
    """The key of a record: 1 to 16 paths to strings or numbers, joined by ":".

    A number gives one text however it is spelled: 8, 8.0 and 80e-1 are "8". Raises JsonError when a
    path finds nothing, or null, a boolean or a container, or when the key is empty, holds NUL or
    has more than 512 bytes.
    """
