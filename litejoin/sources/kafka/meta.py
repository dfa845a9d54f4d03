"""Where a message comes from, and its headers, as a member of its value."""

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from litejoin._ext.gjson import compile_path


class Meta:
    """Adds one member to values that are objects. Called by the packer for each message.

    The member: `{"topic", "partition", "offset", "headers": {name: text}}`. Of headers with one
    name the last counts; one that is no text is `{"base64": ...}`.
    """

    def __init__(self, name: str) -> None:
        self._path = compile_path(name)
        self._name = json.dumps(name).encode()

    def __call__(self, message: Any, value: bytes) -> bytes:
        """The value, valid JSON, with the member in front; as it is when it is no object.

        Raises ValueError when it has a member of that name already, or a header has no readable
        name.
        """
        body = value.lstrip(b" \t\r\n")
        if not body.startswith(b"{"):
            return value
        if self._path.get(value) is not None:
            raise ValueError(f"the value has a member {self._name.decode()} already: see `meta`")
        rest = body[1:].lstrip(b" \t\r\n")
        comma = b"" if rest.startswith(b"}") else b","
        return b"{" + self._name + b":" + _origin(message) + comma + rest


def _origin(message: Any) -> bytes:
    origin = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "headers": {name: _header(raw) for name, raw in _headers(message)},
    }
    return json.dumps(origin, ensure_ascii=False, separators=(",", ":")).encode()


def _headers(message: Any) -> Sequence[tuple[str, bytes | str | None]]:
    try:
        return message.headers() or ()
    except SystemError:  # what the client makes of a name that is no UTF-8
        raise ValueError("the name of a header is not UTF-8: see `meta`") from None


def _header(raw: bytes | str | None) -> object:
    if raw is None or isinstance(raw, str):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}
