"""Copies the archive's files into an object store while the pipeline runs.

Every compaction interval, each file without a verified copy is copied, by a process of its own. A
store that does not answer is tried again after a pause that grows; until then files stay on this
machine, whatever local_retention says.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from litejoin.archive.cloud import settings_of
from litejoin.archive.paths import ArchivePaths
from litejoin.archive.process import WorkerProcess
from litejoin.clock import SteadyClock
from litejoin.errors import LiteJoinError
from litejoin.plan.nodes import ArchivePlan, CloudPlan, Plan
from litejoin.records import rfc3339
from litejoin.store.layout import Layout

log = logging.getLogger("litejoin.archive")

MAX_PAUSE_S = 300.0
"""Between two tries of a store that does not answer."""


class Copying:
    """The copies of a running pipeline. Event loop only."""

    def __init__(
        self,
        plan: Plan,
        archive: ArchivePlan,
        cloud: CloudPlan,
        epoch: str,
        clock: SteadyClock,
    ) -> None:
        self._clock = clock
        self._manifest = ArchivePaths(Layout(plan.storage.data_dir).archive).manifest
        self._interval_s = archive.compaction_interval_ms / 1000
        self._copier = WorkerProcess(
            {
                "data_dir": str(plan.storage.data_dir.absolute()),
                "epoch": epoch,
                "cloud": asdict(settings_of(cloud)),
            },
            "litejoin.archive.copier",
        )
        self.ready = asyncio.Event()
        """Set once the archive's manifest is there."""
        self._failures, self._failed = 0, 0
        self._joined = False
        self._problem = ""
        self._bad_files: dict[int, str] = {}
        self._uploads, self._bytes, self._errors = 0, 0, 0
        self._last_success_ms: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        await self.ready.wait()
        while True:
            try:
                await self._round()
                self._failures, self._problem = 0, ""
            except LiteJoinError as error:
                self._failures += 1
                self._errors += 1
                self._note(str(error))
            await asyncio.sleep(self._pause_s())

    async def restore(self) -> None:
        """Begin with the copy of the manifest where this machine has none. Raises ObjectStoreError:
        an archive that begins anew beside the old one's objects would not know of them.
        """
        if self._manifest.exists():
            return
        await self._copier.start()
        if (await self._copier.ask("restore"))["restored"]:
            log.warning("archive: its manifest was gone; the copy in the object store is used")

    def _pause_s(self) -> float:
        grown = self._interval_s * 2.0 ** min(self._failures, 20)
        return max(self._interval_s, min(MAX_PAUSE_S, grown))

    async def _round(self) -> None:
        if await self._copier.start() or not self._joined:
            await self._copier.ask("join")
            self._joined = True
        waiting: list[int] = (await self._copier.ask("waiting"))["files"]
        # The file that failed comes last: one that the store refuses must not hold up the others.
        files = sorted(waiting, key=lambda file: (file <= self._failed, file))
        bad: dict[int, str] = {}
        for file in files:
            try:
                copied = await self._copier.ask("copy", file=file)
            except LiteJoinError:
                self._failed = file
                raise
            if copied["problem"]:
                bad[file] = copied["problem"]
            elif copied["bytes"]:
                self._uploads += 1
                self._bytes += copied["bytes"]
                self._last_success_ms = self._clock.now_ms()
        for file in bad.keys() - self._bad_files:
            log.warning("archive: %s", bad[file])
        self._bad_files = bad
        await self._copier.ask("delete_dropped", now_ms=self._clock.now_ms())

    def _note(self, text: str) -> None:
        if text != self._problem:
            log.warning("archive: %s", text.removeprefix("archive: "))
        self._problem = text

    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        return [*([self._problem] if self._problem else ()), *self._bad_files.values()]

    def health(self) -> Mapping[str, Any]:
        """For /health."""
        shown = {
            "uploads": self._uploads,
            "uploaded_bytes": self._bytes,
            "errors": self._errors,
        }
        last = self._last_success_ms
        when = {} if last is None else {"last_success": rfc3339(last)}
        return {"status": "degraded" if self.problems() else "ok", **shown, **when}

    async def close(self) -> None:
        """End the process; a file that it was sending is sent again later."""
        await self._copier.close()
