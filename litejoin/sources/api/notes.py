"""What a source must remember beside its records: watermark, validators, rotated tokens.

A note is a state row of the source, written through the intake like every other row: it is durable
when `put` returns, and survives what the records survive. Its key is longer than any key of a
record can be. A note made under another config (see `fingerprint`) is not read.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Protocol

from litejoin.clock import Clock
from litejoin.errors import OverloadedError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.sources.base import Intake, SourceState

MAX_RECORD_KEY_BYTES = 512
NOTE_KEY_BYTES = 600

Note = dict[str, Any]


class Notes(Protocol):
    """Where notes are kept."""

    async def get(self, name: str, fingerprint: str) -> Note:
        """The note of this name; empty when there is none of this fingerprint."""
        ...

    async def put(self, name: str, fingerprint: str, note: Mapping[str, Any]) -> None:
        """Remember; durable when it returns. Raises what `submit` raises."""
        ...


class DurableNotes:
    """Notes in the source's own state table."""

    def __init__(self, intake: Intake, state: SourceState, clock: Clock) -> None:
        self._intake = intake
        self._state = state
        self._clock = clock

    async def get(self, name: str, fingerprint: str) -> Note:
        return await stored_note(self._state, name, fingerprint)

    async def put(self, name: str, fingerprint: str, note: Mapping[str, Any]) -> None:
        payload = json.dumps({"for": fingerprint, **note}).encode()
        row = Row(
            self._state.number,
            RowKind.STATE_UPSERT,
            self._clock.now_ms(),
            note_key(name),
            payload,
            blake2b(payload, digest_size=16).digest(),
        )
        batch = pack_rows([row])
        while True:
            try:
                return await self._intake.submit(batch, 1)
            except OverloadedError:
                await self._intake.room()


class MemoryNotes:
    """Notes of a poll that stores nothing: those of `state` until they are written over."""

    def __init__(self, state: SourceState | None = None) -> None:
        self._state = state
        self._notes: dict[tuple[str, str], Note] = {}

    async def get(self, name: str, fingerprint: str) -> Note:
        own = self._notes.get((name, fingerprint))
        if own is not None:
            return dict(own)
        return {} if self._state is None else await stored_note(self._state, name, fingerprint)

    async def put(self, name: str, fingerprint: str, note: Mapping[str, Any]) -> None:
        self._notes[name, fingerprint] = dict(note)


async def stored_note(state: SourceState, name: str, fingerprint: str) -> Note:
    """What is durable under this name, if it was made under the same config."""
    [payload] = await state.payloads([note_key(name)])
    note: Note = json.loads(payload) if payload else {}
    return note if note.pop("for", None) == fingerprint else {}


def note_key(name: str) -> bytes:
    """`note NAME` and dots."""
    return f"note {name} ".encode().ljust(NOTE_KEY_BYTES, b".")


def is_note(key: bytes) -> bool:
    """A state row that is no record's."""
    return len(key) > MAX_RECORD_KEY_BYTES


def fingerprint(*parts: object) -> str:
    """Equal while the config that a note depends on is the same. Tells nothing of secrets."""
    text = repr([str(part) for part in parts])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
