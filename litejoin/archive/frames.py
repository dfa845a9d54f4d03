"""How the runtime and the archive's worker speak: frames over a pair of pipes.

    4 bytes   length of the header, big endian
    header    JSON object
    bytes     `size` of the header, if it has one: raw bytes that follow

A request has `do` and the arguments of that method of the worker; an answer is what it returned, or
has `error` and the `code` of its class.
"""

import json
import struct
from typing import Any

LENGTH = struct.Struct(">I")
MAX_HEADER_BYTES = 64 * 1024 * 1024

Header = dict[str, Any]


def pack(header: Header, body: bytes = b"") -> bytes:
    """One frame."""
    if body:
        header = {**header, "size": len(body)}
    text = json.dumps(header).encode()
    return LENGTH.pack(len(text)) + text + body
