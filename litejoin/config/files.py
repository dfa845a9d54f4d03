"""Checks that no two parts of a pipeline write one file. Called by `semantic`; looks at no disk."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from posixpath import normpath

from litejoin.config.diagnostics import Diagnostics
from litejoin.config.document import Document
from litejoin.config.text import shown
from litejoin.own_files import is_of_database, is_stored

DLQ_PATH = "/delivery/dlq/path"


def check_files(document: Document, found: Diagnostics) -> None:
    """Add a finding for each file that something else writes, too."""
    first: dict[PurePosixPath, tuple[str, str]] = {}
    for pointer, kind, path in _files(document):
        place = _normal(path)
        owner = first.setdefault(place, (kind, pointer))
        if what := _own(document, kind, place):
            message = f'"{shown(path)}" {what}'
            found.add(document.finding("LJ225", pointer, message, hint="name another file"))
        elif owner[1] != pointer and (kind, owner[0]) != ("sqlite", "sqlite"):
            message = f'"{shown(path)}" is written by {_owner(document, owner[1])}, too'
            found.add(document.finding("LJ225", pointer, message, hint="name another file"))


def _own(document: Document, kind: str, place: PurePosixPath) -> str:
    """What of the pipeline's own a place is; nothing: it is free, or two write it."""
    if place == _normal(document.file):
        return "is this config"
    return "holds the pipeline's own data" if _is_data(document, kind, place) else ""


def _is_data(document: Document, kind: str, place: PurePosixPath) -> bool:
    if document.is_unknown("/storage/data_dir"):
        return False  # the default of dlq.path hangs on it
    data_dir, dlq = (_normal(document.get(pointer)) for pointer in ("/storage/data_dir", DLQ_PATH))
    if kind == "dlq":
        return is_stored(place, data_dir) and place != data_dir / "dlq.db"
    is_beside = place != dlq and is_of_database(place, dlq)
    return is_stored(place, data_dir) or (is_beside and not document.is_unknown(DLQ_PATH))


def _normal(path: str) -> PurePosixPath:
    return PurePosixPath(normpath(path))


def _files(document: Document) -> Iterator[tuple[str, str, str]]:
    """Pointer, kind and path of each file that the config names."""
    found = []
    if document.has(DLQ_PATH):
        found.append((DLQ_PATH, "dlq"))
    for index, sink in enumerate(document.value["sinks"]):
        if sink["type"] in ("file", "sqlite"):
            found.append((f"/sinks/{index}/config/path", sink["type"]))
    for pointer, kind in found:
        if not document.is_unknown(pointer):
            yield pointer, kind, document.get(pointer)


def _owner(document: Document, pointer: str) -> str:
    sink = document.get(pointer.removesuffix("/config/path"))
    return f'the sink "{sink["name"]}"' if isinstance(sink, dict) else "delivery.dlq"
