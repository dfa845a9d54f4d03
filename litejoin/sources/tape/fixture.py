"""The directory that holds a recording.

    fixture.json    {"format": 1, "source": name, "recorded_at": RFC 3339, "exchanges": [...]}
    0001.body       the body of the first answer, decompressed; and so on

An exchange: `method`, `url`, `body` (of the request, or null), `status`, `headers` (of the answer,
lower case). Everything in it was redacted before. Files are for the owner alone, for the records of
an API may be private. The files are written as the answers come: a recording that breaks off keeps
what it has.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from litejoin.errors import ConfigError

FORMAT = 1
MANIFEST = "fixture.json"
UNKEPT_HEADERS = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}
)
"""Say how an answer travelled; the body is kept decompressed and whole."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, redacted. `request` is the request's body."""

    method: str
    url: str
    request: str | None
    status: int
    headers: Mapping[str, str]
    body: bytes


class FixtureWriter:
    """A new recording in `directory`, which must not exist or be empty."""

    def __init__(self, directory: Path, source: str, recorded_at: str) -> None:
        """Raises ConfigError when the directory holds something."""
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigError(
                f"{directory} is not empty", hint="a recording goes into a directory of its own"
            )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._manifest: dict[str, Any] = {
            "format": FORMAT,
            "source": source,
            "recorded_at": recorded_at,
            "exchanges": [],
        }
        self._store_manifest()

    def __len__(self) -> int:
        return len(self._manifest["exchanges"])

    def add(self, exchange: Exchange) -> None:
        """Keep one exchange."""
        head = asdict(exchange)
        body = head.pop("body")
        head["headers"] = {n: v for n, v in exchange.headers.items() if n not in UNKEPT_HEADERS}
        self._manifest["exchanges"].append(head)
        _write(self._directory / body_name(len(self)), body)
        self._store_manifest()

    def _store_manifest(self) -> None:
        text = json.dumps(self._manifest, indent=2, ensure_ascii=False) + "\n"
        _write(self._directory / MANIFEST, text.encode())


def body_name(number: int) -> str:
    """The file of the answer with this number, from 1."""
    return f"{number:04}.body"


def read_fixture(directory: Path) -> list[Exchange]:
    """The exchanges of a recording, in order. Raises ConfigError when it is none, or damaged."""
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise ConfigError(
                f"{path} has format {manifest['format']}, this version reads {FORMAT}"
            )
        return [
            _exchange(head, (directory / body_name(number)).read_bytes())
            for number, head in enumerate(manifest["exchanges"], 1)
        ]
    except OSError as error:
        raise ConfigError(
            f"no recording in {directory}: {error.strerror}",
            hint="`litejoin record` makes one",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {type(error).__name__} {error}") from None


def _exchange(head: Mapping[str, Any], body: bytes) -> Exchange:
    headers = {str(name).lower(): str(value) for name, value in head["headers"].items()}
    request = head["request"]
    return Exchange(
        str(head["method"]),
        str(head["url"]),
        None if request is None else str(request),
        int(head["status"]),
        headers,
        body,
    )


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
