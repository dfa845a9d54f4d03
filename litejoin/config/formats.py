"""The schema's own formats, and the rule code that a value of each breaks.

The functions raise ValueError with the rest of a sentence that starts with the value: "30" needs a
unit. JSON Schema's `format` ignores values that are not text; so do these.
"""

import re
from collections.abc import Callable
from typing import Any

from litejoin.config import values
from litejoin.signatures import signing_key

_STATUS = re.compile(r"[1-5][0-9][0-9]|[1-5]xx", re.IGNORECASE)
_HEADER_BAD = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _positive_duration(text: str) -> None:
    if values.parse_duration_ms(text) == 0:
        raise ValueError("must be longer than 0")


def _status(text: str) -> None:
    if not _STATUS.fullmatch(text):
        raise ValueError('is not a status such as "429" or a class such as "5xx"')


def _header(text: str) -> None:
    if _HEADER_BAD.search(text):
        raise ValueError("holds a line break or another control character")


def _sql(text: str) -> None:
    if not text.strip():
        raise ValueError("is empty; it is one SELECT")


def _webhook_secret(text: str) -> None:
    try:
        signing_key(text)
    except ValueError:
        raise ValueError("is not base64 after whsec_; copy it anew, or drop the prefix") from None


FORMATS: dict[str, tuple[str, Callable[[str], object]]] = {
    "go-duration": ("LJ107", values.parse_duration_ms),
    "go-duration-positive": ("LJ107", _positive_duration),
    "size": ("LJ108", values.parse_size_bytes),
    "address": ("LJ109", values.parse_address),
    "url": ("LJ110", values.check_url),
    "replica-url": ("LJ110", values.check_replica_url),
    "gjson": ("LJ113", values.check_gjson),
    "brokers": ("LJ116", values.check_brokers),
    "status": ("LJ116", _status),
    "header": ("LJ116", _header),
    "header-name": ("LJ116", values.check_header_name),
    "since": ("LJ116", values.check_since),
    "time-format": ("LJ116", values.check_time_format),
    "origin": ("LJ116", values.check_origin),
    "sql": ("LJ116", _sql),
    "webhook-secret": ("LJ116", _webhook_secret),
}
"""Format name -> rule code and check."""


def magnitude(value: Any, schema: Any) -> float | None:
    """What the schema's `minimum` bounds: a number, or the bytes of a size. None: neither."""
    if isinstance(value, str) and schema.get("format") == "size":
        try:
            return values.parse_size_bytes(value)
        except ValueError:
            return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
