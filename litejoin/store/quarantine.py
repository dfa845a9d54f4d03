"""Which shards are out of service because they are damaged, and why.

A damaged shard is neither read nor written any more, and its files are left as they are. The
others go on. Whoever meets damage says so here, on any thread; the flush thread and the evaluator
leave the shard out before their next work. Kept in `quarantine.json` across restarts: damage that a
quick look does not find again is not forgotten. `litejoin check --release` takes a shard out of it.
"""

import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from litejoin.clock import SystemClock
from litejoin.errors import CorruptionError, ShardQuarantinedError, StartRefusedError
from litejoin.records import rfc3339
from litejoin.store.files import replace_file

log = logging.getLogger("litejoin.store")


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a shard is out of service, and since when (RFC 3339)."""

    reason: str
    since: str


class Quarantine:
    """The shards of one data directory that are out of service. Any thread."""

    def __init__(self, path: Path) -> None:
        """Read what was found earlier. Raises StartRefusedError when the file cannot be read."""
        self._path = path
        self._found = read_quarantine(path)
        self._lock = threading.Lock()
        self.shards = frozenset(self._found)
        """Their numbers; replaced as a whole, so that it can be read without a lock."""

    def add(self, shard: int, reason: str) -> None:
        """Take a shard out of service; the first reason stays. Blocks on the disk for a moment."""
        with self._lock:
            if shard in self._found:
                return
            since = rfc3339(SystemClock().now_ms())
            self._found = {**self._found, shard: Damage(reason, since)}
            self.shards = frozenset(self._found)
            log.error(
                "store: shard %d is quarantined: %s (its keys are refused, the other shards run;"
                " litejoin check says more)",
                shard, reason,
            )  # fmt: skip
            try:
                write_quarantine(self._path, self._found)
            except OSError as error:
                # It is out of service in this process all the same.
                log.error("store: %s: %s", self._path, error.strerror)

    def take(self, error: CorruptionError) -> None:
        """Take the error's shard out of service. Raises the error when it names none."""
        if error.shard < 0:
            raise error
        self.add(error.shard, str(error).removeprefix(f"shard {error.shard}: "))

    def reasons(self) -> dict[int, str]:
        """By shard, for people."""
        return {shard: damage.reason for shard, damage in sorted(self._found.items())}

    def refusal(self) -> ShardQuarantinedError:
        """What to answer to rows of these shards."""
        names = ", ".join(map(str, sorted(self.shards)))
        return ShardQuarantinedError(
            f"shard {names} is quarantined: rows of its keys are not taken",
            shard=min(self.shards, default=-1),
            hint="litejoin check says what is wrong; send them again when it is repaired",
        )


def read_quarantine(path: Path) -> dict[int, Damage]:
    """What the file says; nothing without one. Raises StartRefusedError when it is damaged."""
    try:
        body = json.loads(path.read_bytes())
        return {int(n): Damage(str(d["reason"]), str(d["since"])) for n, d in body.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartRefusedError(
            f"{path} cannot be read: {error}",
            hint="run litejoin check --deep on the directory, then delete the file",
        ) from error


def write_quarantine(path: Path, found: dict[int, Damage]) -> None:
    """Replace the file, or remove it when nothing is quarantined. Raises OSError."""
    if not found:
        path.unlink(missing_ok=True)
        return
    body = {str(n): {"reason": d.reason, "since": d.since} for n, d in sorted(found.items())}
    replace_file(path, json.dumps(body, indent=1).encode() + b"\n")
