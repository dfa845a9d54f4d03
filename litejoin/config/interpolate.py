"""Expands `${VAR}`, `${VAR:-default}`, `${file:/path}` and `$${` in the scalars of a tree.

After parsing, once, in values only: what a variable holds is never parsed or expanded again, so it
cannot add keys. Every other `$` stays as it is (JSON paths). What came from the environment or from
a file is remembered as secret. Changes the scalars in place; reads the files that are named.
"""

import re
from collections.abc import Iterator
from collections.abc import Mapping as AnyMapping

from litejoin.config.diagnostics import Diagnostics, pointer_of
from litejoin.config.nodes import Mapping, Node, Piece, Scalar, Sequence
from litejoin.config.text import shown, suggestion
from litejoin.frozen import dataclass
from litejoin.plain_files import read_plain

MAX_FILE_BYTES = 64 * 1024
"""A secret or a certificate fits; a wrong path to a large file must not fill the memory."""
MAX_TEXT = 1 << 20
"""Characters of one expanded value, as many as a whole config may have."""
MAX_EXPANSIONS = 1_000
"""Expansions in one value; each costs a piece of memory and, when it fails, a finding."""
PLACEHOLDER = "placeholder"
"""Stands for a variable that is not set: what else is wrong is still told."""
_PLACEHOLDER_NUMBER = "1"
"""Stands for one in a query, where a word would be a column that does not exist."""
_BEFORE_WORD = re.compile(r"""(?:\b(?:from|join|as)\s+|[\w."'`\[])$""", re.IGNORECASE)
"""What stands in a query before a name, or inside a name or a text."""

_OPENING = re.compile(r"\$\$\{|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Environment:
    """What expansions can use. `check` False: an unset variable gives a placeholder."""

    variables: AnyMapping[str, str]
    check: bool = True


class _BadExpansion(Exception):
    """One expansion failed: rule code, message, hint, and the variable when that is unset."""

    def __init__(self, code: str, message: str, hint: str = "", unset: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.unset = code, message, hint, unset


def interpolate(root: Node, environment: Environment, found: Diagnostics) -> None:
    """Expand every scalar value below `root`, once, also those that aliases share."""
    done: set[int] = set()
    for path, scalar in scalars(root):
        if id(scalar) not in done and "${" in scalar.written:
            done.add(id(scalar))
            _expand(scalar, path, environment, found)


def scalars(
    node: Node, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Scalar]]:
    """Every scalar value (no keys) with its path."""
    if isinstance(node, Scalar):
        yield path, node
    elif isinstance(node, Mapping):
        for name, entry in node.entries.items():
            yield from scalars(entry.value, (*path, name))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from scalars(item, (*path, index))


def _expand(
    scalar: Scalar, path: tuple[str | int, ...], environment: Environment, found: Diagnostics
) -> None:
    text, pointer = scalar.written, pointer_of(path)
    pieces: list[Piece] = []
    secrets: list[str] = []
    at = 0
    for opening in _OPENING.finditer(text):
        if opening.start() < at:
            continue  # inside the default of the expansion before
        if len(pieces) > 2 * MAX_EXPANSIONS:
            message = f"more than {MAX_EXPANSIONS:,} expansions in one value"
            found.node(scalar, "LJ131", message, pointer=pointer)
            scalar.unknown = True
            break
        pieces.append(_literal(at, text[at : opening.start()]))
        if opening[0] == "$${":
            pieces.append(Piece(opening.start(), 3, "${", literal=False))
            at = opening.end()
            continue
        end = text.find("}", opening.end())
        inner = text[opening.end() : end if end >= 0 else len(text)]
        at = end + 1 if end >= 0 else len(text)
        try:
            if end < 0:
                raise _BadExpansion("LJ131", "${ has no closing brace", "$${ is a literal ${")
            value, is_secret = _value(inner, environment)
        except _BadExpansion as bad:
            scalar.unknown = True
            value, is_secret = _stand_in(path, text[: opening.start()]), False
            if bad.code != "LJ130" or environment.check:
                _report(scalar, (opening.start(), at), bad, environment, pointer, found)
        if is_secret and value:
            secrets.append(value)
        pieces.append(Piece(opening.start(), at - opening.start(), value, literal=False))
    pieces.append(_literal(at, text[at:]))
    scalar.pieces = tuple(piece for piece in pieces if piece.length)
    scalar.secrets = tuple(secrets)
    scalar.text = "".join(piece.value for piece in scalar.pieces)
    if len(scalar.text) > MAX_TEXT:
        found.node(scalar, "LJ121", "the expanded value is larger than 1 MiB", pointer=pointer)
        scalar.text, scalar.unknown = PLACEHOLDER, True


def _stand_in(path: tuple[str | int, ...], before: str) -> str:
    is_query = len(path) == 3 and path[-1] == "query"
    is_value = is_query and not _BEFORE_WORD.search(before)
    return _PLACEHOLDER_NUMBER if is_value else PLACEHOLDER


def _literal(start: int, text: str) -> Piece:
    return Piece(start, len(text), text, literal=True)


def _report(
    scalar: Scalar,
    span: tuple[int, int],
    bad: _BadExpansion,
    environment: Environment,
    pointer: str,
    found: Diagnostics,
) -> None:
    start, end = (scalar.index_of_written(at) for at in span)
    hint = bad.hint
    if bad.unset and not found.is_full:
        near = suggestion(bad.unset, environment.variables)
        default = f"set it, or write ${{{bad.unset}:-default}}"
        hint = f'did you mean "{near}"?' if near else default
    found.at(
        scalar.source, start, bad.code, bad.message,
        hint=hint, pointer=pointer, length=end - start,
    )  # fmt: skip


def _value(inner: str, environment: Environment) -> tuple[str, bool]:
    """The value of what stands between `${` and `}`, and whether it is secret."""
    if inner.startswith("file:"):
        return _file(inner.removeprefix("file:")), True
    name, has_default, default = inner.partition(":-")
    if not _NAME.fullmatch(name):
        hint = "write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${"
        raise _BadExpansion("LJ131", f'"${{{shown(inner)}}}" names no variable', hint)
    value = environment.variables.get(name)
    if value is None or (has_default and not value):
        if has_default:
            return default, False
        message = f"the variable {shown(name)} is not set"
        raise _BadExpansion("LJ130", message, unset=name)
    return _checked(value, f"the variable {name}"), True


def _file(name: str) -> str:
    try:
        data = read_plain(name, MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise _BadExpansion("LJ132", f"cannot read {shown(name)}: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _BadExpansion("LJ132", f"{shown(name)} is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise _BadExpansion("LJ132", f"{shown(name)} is no UTF-8 text") from None
    # Editors and `echo` end files with a line break that is not part of the secret.
    return _checked(text.removesuffix("\n").removesuffix("\r"), shown(name))


def _checked(value: str, what: str) -> str:
    """Refuse what no config text can hold: NUL and bytes that are not UTF-8."""
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise _BadExpansion("LJ132", f"{what} holds bytes that are no text")
    return value
