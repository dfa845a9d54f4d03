"""Checks that no two parts of a pipeline write one file. Called by `semantic`; looks at no disk."""

import re
from collections.abc import Iterator
from posixpath import basename, dirname, normpath

from litejoin.config.diagnostics import Diagnostics
from litejoin.config.document import Document
from litejoin.config.text import shown

_STORED = re.compile(r"lock|marks|(manifest|quarantine)\.json|(state|catalogue|shard-.*)\.db.*")
"""Names in data_dir of the pipeline's own files; the dead-letter queue may be beside them."""


def check_files(document: Document, found: Diagnostics) -> None:
    """Add a finding for each file that something else writes, too."""
    data_dir = normpath(document.get("/storage/data_dir"))
    first: dict[str, tuple[str, str]] = {}
    for pointer, kind, path in _files(document):
        place = normpath(path)
        owner = first.setdefault(place, (kind, pointer))
        is_stored = dirname(place) == data_dir and _STORED.fullmatch(basename(place))
        if is_stored and not document.is_unknown("/storage/data_dir"):
            message = f'"{shown(path)}" holds the pipeline\'s own data'
            found.add(document.finding("LJ225", pointer, message, hint="name another file"))
        elif owner[1] != pointer and (kind, owner[0]) != ("sqlite", "sqlite"):
            message = f'"{shown(path)}" is written by {_owner(document, owner[1])}, too'
            found.add(document.finding("LJ225", pointer, message, hint="name another file"))


def _files(document: Document) -> Iterator[tuple[str, str, str]]:
    """Pointer, kind and path of each file that the config names."""
    found = []
    if document.has("/delivery/dlq/path"):
        found.append(("/delivery/dlq/path", "dlq"))
    for index, sink in enumerate(document.value["sinks"]):
        if sink["type"] in ("file", "sqlite"):
            found.append((f"/sinks/{index}/config/path", sink["type"]))
    for pointer, kind in found:
        if not document.is_unknown(pointer):
            yield pointer, kind, document.get(pointer)


def _owner(document: Document, pointer: str) -> str:
    sink = document.get(pointer.removesuffix("/config/path"))
    return f'the sink "{sink["name"]}"' if isinstance(sink, dict) else "delivery.dlq"
