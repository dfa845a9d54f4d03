"""Results over rows that topics no longer keep: what /snapshot answers when `from` reaches so far.

The work is done by a process of its own (litejoin.runtime.historian), started by the first request
and ended when nobody has asked for a while. Event loop only.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from litejoin.archive.cloud import settings_of
from litejoin.archive.process import WorkerProcess
from litejoin.clock import Clock
from litejoin.errors import OverloadedError, QueryError, StorageError
from litejoin.plan.nodes import ArchivePlan, JoinPlan, Plan

MAX_WAITING = 4
"""Requests that wait for the one being answered; more are told to come back."""

TIMEOUT_S = 60.0
IDLE_S = 300.0
"""How long the process is kept after its last answer: it holds DuckDB's memory."""


class History:
    """For the joins of a pipeline with an archive. Close it."""

    def __init__(self, plan: Plan, archive: ArchivePlan, clock: Clock) -> None:
        self._clock = clock
        kept = {topic.name.lower(): topic.retention_ms for topic in plan.topics}
        self._asked = {join.name: topics for join in plan.joins if (topics := _topics(join))}
        self._retention_ms = {
            name: min(times)
            for name, topics in self._asked.items()
            if (times := [ms for topic in topics if (ms := kept.get(topic.lower()))])
        }
        """By join: the shortest retention of its topics. A join without is not here."""
        cloud = archive.cloud
        opening = {
            "data_dir": str(plan.storage.data_dir.absolute()),
            "pipeline": plan.name,
            "shard_count": plan.storage.shard_count,
            "memory_limit_bytes": archive.memory_limit_bytes,
            "joins": [self._describe(j) for j in plan.joins if j.name in self._retention_ms],
            "cloud": asdict(settings_of(cloud)) if cloud else None,
            "cache_bytes": cloud.cache_bytes if cloud else 0,
        }
        self._process = WorkerProcess(opening, "litejoin.runtime.historian")
        self._waiting = 0
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def _describe(self, join: JoinPlan) -> dict[str, Any]:
        return {
            "name": join.name,
            "sql": join.full_sql or join.expanded or join.query,
            "topics": sorted(self._asked[join.name]),
            "columns": list(join.columns),
            "key_column": join.key_column,
            "key_index": join.key_index,
            "json_columns": list(join.json_columns),
            "ordered": join.ordered,
        }

    def reaches(self, joins: Collection[str], from_ms: int) -> frozenset[str]:
        """Those of the joins that may have had results then whose rows have expired since."""
        age_ms = self._clock.now_ms() - from_ms
        kept = self._retention_ms
        return frozenset(name for name in joins if name in kept and age_ms > kept[name])

    async def results(
        self,
        joins: Collection[str],
        keys: Collection[str] | None,
        from_ms: int,
        to_ms: int | None,
        limit: int,
    ) -> tuple[list[bytes], bool]:
        """Result objects as JSON, at most `limit`, and whether there are more.

        Raises OverloadedError, QueryError and StorageError.
        """
        if self._waiting > MAX_WAITING:
            raise OverloadedError("others are asking the archive already", retry_after_s=5)
        self._waiting += 1
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._ask(sorted(joins), keys, from_ms, to_ms, limit)
        except TimeoutError:
            raise QueryError(
                f"the archive was not read within {TIMEOUT_S:g} s",
                hint="ask with keys, or a later from",
            ) from None
        except StorageError as error:
            raise QueryError(str(error), hint=error.hint) from error
        finally:
            self._waiting -= 1
            self._keep()

    async def _ask(
        self,
        joins: Sequence[str],
        keys: Collection[str] | None,
        from_ms: int,
        to_ms: int | None,
        limit: int,
    ) -> tuple[list[bytes], bool]:
        await self._process.start()
        wanted = sorted(keys) if keys is not None else None
        header, body = await self._process.ask_bytes(
            "results", joins=joins, keys=wanted, from_ms=from_ms, to_ms=to_ms, limit=limit
        )
        return body.split(b"\n") if body else [], header["truncated"]

    def _keep(self) -> None:
        if self._idle:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._end)

    def _end(self) -> None:
        if not self._waiting:
            task = asyncio.ensure_future(self._process.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End the process."""
        if self._idle:
            self._idle.cancel()
        await self._process.close()


def _topics(join: JoinPlan) -> frozenset[str]:
    """The topics that a join reads, itself or through other joins; none where it reads windows,
    whose messages the archive does not have.
    """
    if join.windows:
        return frozenset()
    return frozenset(reference.topic for reference in join.references)
