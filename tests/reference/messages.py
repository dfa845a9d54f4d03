"""Twin of litejoin._ext.messages: which messages of a topic have a usable time, and which one."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from litejoin.store.changes import unpack_changes


def read(
    chunk: bytes, topic: int, member: str | None, latest_ms: int
) -> tuple[list[Any], list[str]]:
    """((time, key, payload) of the messages taken, keys of those refused); `member` of the payload
    is the event time, as RFC 3339 or Unix seconds or milliseconds.
    """
    taken, refused = [], []
    for change in unpack_changes(chunk):
        if not change.message or change.topic != topic or change.new is None:
            continue
        ms = change.new.timestamp_ms
        if member is not None:
            ms = _time(change.new.payload, member)
        if ms is None or not 0 <= ms <= latest_ms:
            refused.append(change.key.decode())
        else:
            taken.append((ms, change.key.decode(), change.new.payload.decode()))
    return taken, refused


def _time(payload: bytes, member: str) -> int | None:
    try:
        value = json.loads(payload)[member]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    if isinstance(value, bool) or value is None:
        return None
    try:
        if isinstance(value, str) and "T" in value:
            return int(datetime.fromisoformat(value).timestamp() * 1000)
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number if abs(number) >= 1e11 else number * 1000)


def no_json(payloads: Iterable[str]) -> list[str]:
    """Those that are in no partition, whatever its path."""
    return [text for text in payloads if not _is_json(text)]


def _is_json(text: str) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def texts(values: Iterable[Any]) -> list[str]:
    """JSON texts of payloads whose member "at" is each value."""
    return [json.dumps({"at": value}) for value in values]
