"""Asks a running Litestream through its control socket (HTTP/1.0 over a Unix socket).

    GET /info     {"version", "pid", ..}
    POST /sync    {"path", "wait", "timeout"} -> {"status", "txid", "replicated_txid"}

Event loop only. Raises OSError when nobody answers, ValueError for an answer that is none.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_ANSWER_BYTES = 1 << 20


async def ask(socket: Path, target: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One answer. Callers set the time limit: a Litestream that hangs accepts, and says nothing."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{'GET' if body is None else 'POST'} {target} HTTP/1.0\r\nHost: litestream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        await writer.drain()
        answer = await reader.read(MAX_ANSWER_BYTES)
        while chunk := await reader.read(MAX_ANSWER_BYTES):
            answer += chunk
            if len(answer) > MAX_ANSWER_BYTES:
                raise ValueError("the answer is too long")
    finally:
        writer.close()
    head_bytes, _, text = answer.partition(b"\r\n\r\n")
    found = json.loads(text) if text else None
    if not isinstance(found, dict):
        raise ValueError(f"litestream answered {text[:200]!r}")
    if head_bytes.split(b" ")[1:2] != [b"200"]:
        raise ValueError(str(found.get("error", found)))
    return found


async def sync(socket: Path, path: Path, timeout_s: float) -> None:
    """Bring the replica of one database up to date now. Raises OSError and ValueError."""
    seconds = max(1, round(timeout_s))
    await ask(socket, "/sync", {"path": str(path), "wait": True, "timeout": seconds})
