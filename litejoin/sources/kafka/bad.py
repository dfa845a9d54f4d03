"""A message that cannot be a row, as a row of the dead-letter topic."""

import json
from base64 import b64encode
from typing import Any

from litejoin.records import Row, RowKind

KEPT_BYTES = 256 * 1024
"""Of the key and of the value; more is cut and said to be."""


def bad_row(number: int, message: Any, reason: str, now_ms: int) -> Row:
    """Key `topic/partition/offset`; payload with the reason and what was sent.

    What is not text is given in base64, under `key_base64` and `value_base64`.
    """
    at = (message.topic(), message.partition(), message.offset())
    payload: dict[str, object] = {
        "topic": at[0], "partition": at[1], "offset": at[2], "reason": reason,
    }  # fmt: skip
    for name, raw in (("key", message.key()), ("value", message.value())):
        payload |= _shown(name, raw.encode() if isinstance(raw, str) else raw)
    body = json.dumps(payload, ensure_ascii=False).encode()
    return Row(number, RowKind.UPSERT, now_ms, "/".join(map(str, at)).encode(), body)


def _shown(name: str, raw: bytes | None) -> dict[str, object]:
    if raw is None:
        return {name: None}
    cut: dict[str, object] = {f"{name}_bytes": len(raw)} if len(raw) > KEPT_BYTES else {}
    try:
        return {name: raw[:KEPT_BYTES].decode(), **cut}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(raw[:KEPT_BYTES]).decode(), **cut}
