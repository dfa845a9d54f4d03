"""`--env-file`: NAME=value lines that `${NAME}` in a config can use.

The form that shells and container runtimes share: blank lines and `#` comments, an optional
`export`, values bare, in single or in double quotes. Nothing is expanded inside of values.
"""

import re
from pathlib import Path

from litejoin.errors import ConfigError

MAX_BYTES = 1 << 20

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a file, the last one of a name counts. Raises ConfigError. Blocking."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text") from None
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            # The line itself may hold a secret: only its place is told.
            raise ConfigError(f"{path}:{number}: not a NAME=value line")
        variables[match[1]] = _unquoted(match[2], f"{path}:{number}")
    return variables


def _unquoted(text: str, place: str) -> str:
    quote = text[:1]
    if quote not in ("'", '"'):
        return re.split(r"\s#", text, maxsplit=1)[0].rstrip()
    body = re.fullmatch(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}\s*(?:#.*)?", text)
    if quote == "'":
        body = re.fullmatch(r"'([^']*)'\s*(?:#.*)?", text)
    if body is None:
        raise ConfigError(f"{place}: the quotes are not closed")
    if quote == "'":
        return body[1]
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), body[1])
