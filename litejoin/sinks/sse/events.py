"""Results as server-sent events (the event-stream format of the HTML standard). No I/O.

field   value
id      <first 8 hex digits of the epoch>-<log position>
event   join_result | replay_complete | reset
data    the result object; one line, because JSON text holds no raw line break
"""

import json
from collections.abc import Sequence

from litejoin.records import Result

EPOCH_DIGITS = 8
"""Enough that a recreated data directory is noticed; short, since every event carries it."""

RETRY = b"retry: 2000\n\n"
"""Browsers reconnect after this many milliseconds; their own default is up to ten times that."""


class Wire:
    """Encodes for one epoch."""

    def __init__(self, epoch: str, lost: Sequence[tuple[int, int]] = ()) -> None:
        """`lost`: LogReader.lost."""
        self._lost = lost
        self.prefix = epoch[:EPOCH_DIGITS]
        self._prefix = self.prefix.encode()

    def id_of(self, pos: int) -> str:
        """What a client sends back as Last-Event-ID, and the value of LiteJoin-Position."""
        return f"{self.prefix}-{pos}"

    def position_of(self, event_id: str) -> int | None:
        """The position of an id; None when it is of another epoch, or no id of ours."""
        prefix, _, digits = event_id.strip().partition("-")
        if prefix != self.prefix or not digits.isdecimal() or len(digits) > 18:
            return None
        return int(digits)

    def is_lost(self, pos: int) -> bool:
        """The results up to `pos` are not those that a client with this position has seen."""
        return any(after < pos <= upto for after, upto in self._lost)

    def event(self, result: Result) -> bytes:
        """A change."""
        return b"id: %b-%d\nevent: join_result\ndata: %b\n\n" % (
            self._prefix, result.pos, one_line(result.body()),
        )  # fmt: skip

    def replayed(self, result: Result) -> bytes:
        """A current result. Replays go in rising position, so a client cut half-way resumes."""
        body = one_line(result.body())[:-1] + b',"_replay":true}'
        return b"id: %b-%d\nevent: join_result\ndata: %b\n\n" % (self._prefix, result.pos, body)

    def replay_complete(self, pos: int) -> bytes:
        """The current state was sent; from here on come changes after `pos`."""
        return self._named("replay_complete", pos, {"position": self.id_of(pos)})

    def reset(self, reason: str) -> bytes:
        """What the client has seen cannot be continued: it must forget its state.

        Without an id: a client that is cut here must not believe that it holds a position.
        """
        return f"event: reset\ndata: {json.dumps({'reason': reason})}\n\n".encode()

    def mark(self, pos: int) -> bytes:
        """Sets the client's last id without an event: from now on it can resume at `pos`."""
        return b"id: %b-%d\n\n" % (self._prefix, pos)

    def heartbeat(self, pos: int) -> bytes:
        """A comment that keeps proxies from closing a quiet stream, and the id of now."""
        return b": heartbeat\n" + self.mark(pos)

    def _named(self, name: str, pos: int, data: object) -> bytes:
        return f"id: {self.id_of(pos)}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def one_line(body: bytes) -> bytes:
    """A body without raw line breaks; in JSON they can only stand between values."""
    if b"\n" in body or b"\r" in body:
        return body.replace(b"\r", b" ").replace(b"\n", b" ")
    return body
