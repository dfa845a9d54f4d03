"""What an operator sees of a running pipeline: the monitor line and /health.

Reads counters of the other parts; changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from litejoin import __version__
from litejoin.clock import Clock
from litejoin.runtime.channel import MAX_BATCHES, Channel
from litejoin.runtime.threads import EvaluateThread, FlushThread
from litejoin.sources.base import Source

MONITOR_INTERVAL_S = 10.0

log = logging.getLogger("litejoin.monitor")


class Monitor:
    """Writes `pipeline-monitor: ...` while something happens; nothing scrolls when nothing does."""

    def __init__(
        self,
        channel: Channel,
        flusher: FlushThread,
        evaluator: EvaluateThread,
        seq: Callable[[], int],
    ) -> None:
        self._channel, self._flusher, self._evaluator = channel, flusher, evaluator
        self._seq = seq

    async def run(self) -> None:
        """Until cancelled."""
        last = -1
        while True:
            await asyncio.sleep(MONITOR_INTERVAL_S)
            if self._seq() != last or self._evaluator.pending:
                last = self._seq()
                log.info("%s", self.line())

    def line(self) -> str:
        """The monitor line, as operators grep for it."""
        waiting = len(self._channel)
        share = 100 * waiting / MAX_BATCHES
        return (
            f"pipeline-monitor: msgCh={waiting}/{MAX_BATCHES} ({share:.1f}%)"
            f" | writer-batch={self._flusher.last_rows} | joiner-pending={self._evaluator.pending}"
        )


class Health:
    """Answers /health. `status` is "starting", then "ok" or "degraded", at the end "draining"."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_ms = clock.monotonic_ms()
        self.phase = "starting"
        self.config_hash = ""
        self.sources: Sequence[Source] = ()
        self.sinks: Callable[[], Mapping[str, Mapping[str, object]]] = dict
        self.shards: Callable[[], Mapping[str, Any]] = dict
        """What the store says of itself: `quarantined` by shard with the reason, `reasons` of the
        directory as a whole."""
        self.joins: Callable[[], Mapping[str, Mapping[str, object]]] = dict
        self.archive: Callable[[], Mapping[str, Any]] | None = None
        """None: the pipeline has none."""
        self.replication: Callable[[], Mapping[str, Any]] | None = None

    def __call__(self) -> dict[str, object]:
        """The whole answer; the server hides the details from those without the admin token."""
        sources = {source.name: source.health() for source in self.sources}
        sinks, joins, shards = self.sinks(), self.joins(), self.shards()
        reasons = [
            *(f"shard {n}: {why}" for n, why in shards.get("quarantined", {}).items()),
            *shards.get("reasons", ()),
            *_reasons("source", sources), *_reasons("join", joins), *_reasons("sink", sinks),
        ]  # fmt: skip
        parts = {"archive": self.archive, "replication": self.replication}
        others = {name: part() for name, part in parts.items() if part is not None}
        reasons += [reason for part in others.values() for reason in part["reasons"]]
        status = self.phase if self.phase != "ok" else ("degraded" if reasons else "ok")
        return {
            "status": status,
            "version": __version__,
            "config_hash": self.config_hash,
            "uptime_s": (self._clock.monotonic_ms() - self._started_ms) // 1000,
            "reasons": reasons,
            "sources": sources,
            "joins": dict(joins),
            "sinks": dict(sinks),
            "shards": dict(shards),
            **others,
        }


def _reasons(kind: str, parts: Mapping[str, Mapping[str, object]]) -> list[str]:
    return [
        f"{kind} {name}: {part.get('reason', 'degraded')}"
        for name, part in parts.items()
        if part.get("status") == "degraded"
    ]
