"""Replication of a running pipeline: restores what is missing, runs or watches Litestream.

`prepare` is called under the directory's lock, before the store opens anything, on a thread; the
rest on the event loop. Embedded, Litestream is started once every file is there and ends after the
last write, with a last sync. Beside LiteJoin it is somebody else's: its litestream.yml is written,
and what can be seen of it is told.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from litejoin.clock import Clock
from litejoin.errors import ConfigError, LiteJoinError, ReplicaError, StartRefusedError
from litejoin.plan.nodes import HttpSourcePlan, Plan, ReplicationPlan
from litejoin.replica import config as configs
from litejoin.replica import control
from litejoin.replica.binary import INSTALL, find_litestream, require_litestream
from litejoin.replica.fetch import Replica, has_credentials
from litejoin.replica.process import LitestreamProcess
from litejoin.replica.restore import Target, check_lineage, fetch_missing, lineage
from litejoin.replica.settle import Restored, report_path, settle
from litejoin.replica.watch import Watch
from litejoin.store.layout import Layout
from litejoin.store.manifest import load_manifest

EVERY_S = 1.0
ASK_S = 5.0

START_ASK_S = 5.0
"""How long a start waits to hear whose the replica is, when no file is missing."""

CHECK_AGAIN_S = 10.0
LATER_ASK_S = 60.0

BEHIND_S = 10.0
"""A replica that is behind for so long, or for five sync intervals, is trouble."""

UNSEEN_S = 60.0
"""The same where Litestream is beside: it may be started after this process, or be restarted."""

LAST_SYNC_S = 10.0
"""A replica that cannot be had does not hold up the end for longer: the logs keep what is left."""

LAST_SYNC_AGAIN_S = 0.1
END_S = 1.0
"""What Litestream needs to end once everything is copied."""

RESERVE_SHARE = 0.2
MAX_RESERVE_S = 5.0
"""Of the graceful timeout, kept for the last sync."""

log = logging.getLogger("litejoin.replication")


class Replication:
    """One for a pipeline that is replicated."""

    def __init__(self, plan: Plan, replication: ReplicationPlan, clock: Clock) -> None:
        self._plan, self._replication, self._clock = plan, replication, clock
        layout = Layout(plan.storage.data_dir)
        self._files = files_of(plan, layout)
        self._config, self._socket = configs.config_path(layout), configs.socket_path(layout)
        self._watch = Watch(self._files)
        self._process: LitestreamProcess | None = None
        self._behind: dict[str, float] = {}
        self._seen = False
        self._failure = ""
        """The last answer to a file that was not copied."""
        self._problem = ""
        """What the start could not do."""
        self._is_unchecked = False
        """The replica may be another directory's: it did not answer in time."""
        self._restored: Mapping[str, Any] | None = None

    # -- before anything is opened

    def prepare(self, layout: Layout) -> None:
        """Write litestream.yml, and restore what is missing. Blocks.

        Raises ConfigError where Litestream is needed and missing, StartRefusedError for files that
        cannot be had or belong to another directory.
        """
        embedded = self._replication.mode == "embedded"
        program = require_litestream() if embedded else find_litestream()
        write_litestream_yml(self._plan, self._replication, layout)
        target = target_of(self._plan, layout)
        if program is None:
            self._cannot_ask(layout, f"litestream is not installed here ({INSTALL})")
            return
        replica = Replica(program, self._replication, self._config, None)
        try:
            if self._replication.restore_on_boot:
                found = restore(self._plan, target, replica, _tell)
                if found is not None:
                    _log_restored(found)
                    return
            if layout.manifest.exists():
                self._check_lineage(target, replica, START_ASK_S)
        except ReplicaError as error:
            self._cannot_ask(layout, str(error), error)

    def _check_lineage(self, target: Target, replica: Replica, timeout_s: float) -> None:
        remote = lineage(target, replica, timeout_s)
        if remote is not None:
            local = load_manifest(target.layout, target.shard_count, files=False)
            check_lineage(target, local, remote)

    def _cannot_ask(self, layout: Layout, reason: str, error: ReplicaError | None = None) -> None:
        """Go on where nothing is at stake, or where this process was not meant to ask."""
        is_new = not layout.manifest.exists()
        if is_new and self._replication.restore_on_boot:
            is_trusted = self._replication.mode == "sidecar" and (
                error is None or not has_credentials(self._replication.written_url)
            )
            if not is_trusted:
                raise StartRefusedError(
                    f"data_dir {layout.root} is empty, and whether the replica has its data is not"
                    f" known: {reason}",
                    hint="mend that, or set replication.restore_on_boot: false to begin anew",
                ) from error
            self._problem = f"began empty without asking the replica: {reason}"
        else:
            self._problem = f"whose the replica is could not be asked: {reason}"
            self._is_unchecked = error is not None
        log.warning("replication: %s", self._problem)

    # -- while running

    async def start(self) -> None:
        """Begin: every file that is to be replicated is there."""
        layout = Layout(self._plan.storage.data_dir)
        self._restored = await asyncio.to_thread(_last_report, layout)
        replication, files = self._replication, len(self._files)
        if replication.mode == "sidecar":
            log.info(
                "replication: %d files for a litestream beside: %s",
                files, configs.start_line(replication, self._config),
            )  # fmt: skip
            return
        command = configs.arguments(replication, "replicate", self._config)
        program = await asyncio.to_thread(require_litestream)
        self._process = LitestreamProcess([str(program), *command], self._socket, self._config)
        if not self._is_unchecked:
            await self._process.start()
        log.info(
            "replication: litestream copies %d files to %s every %g s",
            files, replication.shown_url, replication.sync_interval_ms / 1000,
        )  # fmt: skip

    async def watch(self) -> None:
        """Until cancelled: see how far the replica is."""
        while self._is_unchecked:
            await self._check_again()
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def _check_again(self) -> None:
        """Nothing is copied over the replica of another directory: until it answers, nothing is."""
        target = target_of(self._plan, Layout(self._plan.storage.data_dir))
        try:
            program = await asyncio.to_thread(require_litestream)
            replica = Replica(program, self._replication, self._config, None)
            await asyncio.to_thread(self._check_lineage, target, replica, LATER_ASK_S)
        except StartRefusedError as error:
            self._problem = f"nothing is copied: {error}"
            log.error("replication: %s (%s)", self._problem, error.hint)
            await asyncio.Event().wait()
        except LiteJoinError as error:
            self._problem = f"whose the replica is could not be asked: {error}"
            await asyncio.sleep(CHECK_AGAIN_S)
        else:
            self._problem, self._is_unchecked = "", False
            if self._process is not None:
                await self._process.start()

    async def look(self) -> None:
        """Look once."""
        before = self._late()
        names = await asyncio.to_thread(self._watch.uncopied, self._now_s())
        if await self._answers() and self._socket is not None:
            socket = self._socket
            await asyncio.gather(*(self._copy(socket, name) for name in names))
        elif self._process is None:
            await asyncio.to_thread(self._watch.look_at_copies, names)
        self._behind = self._watch.behind(self._now_s())
        late = self._late()
        if late and not before:
            name, age_s = _oldest(late)
            log.error(
                "replication: %s has not been copied for %.0f s: %s", name, age_s, self._why()
            )
        elif before and not late:
            log.warning("replication: the replica is up to date again")
        process = self._process
        if process is not None and process.is_hung():
            log.error("replication: litestream (pid %s) hangs and is killed", process.pid)
            process.kill()

    async def _answers(self) -> bool:
        """Does Litestream answer?"""
        try:
            if self._socket is None:
                raise FileNotFoundError
            # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes with the
            # answer, and the stop would wait for this task for ever.
            async with asyncio.timeout(ASK_S):
                await control.ask(self._socket, "/info")
        except (OSError, ValueError, TimeoutError):
            self._seen = False
            return False
        self._seen = True
        if self._process is not None:
            self._process.answered()
        return True

    async def _copy(self, socket: Path, name: str) -> None:
        """Have a file copied now, if it can be."""
        at = self._clock.now_ms() / 1000
        path = self._files[name].absolute()
        try:
            async with asyncio.timeout(ASK_S + 1):
                await control.sync(socket, path, ASK_S)
        except (OSError, ValueError, TimeoutError) as error:
            self._failure = str(error) or f"no answer in {ASK_S:g} s"
        else:
            self._watch.copied(name, at)

    def _now_s(self) -> float:
        return self._clock.monotonic_ms() / 1000

    def _late(self) -> dict[str, float]:
        if self._replication.mode == "sidecar":
            limit_s = UNSEEN_S
        else:
            limit_s = max(BEHIND_S, 5 * self._replication.sync_interval_ms / 1000)
        return {name: age for name, age in self._behind.items() if age >= limit_s}

    def reasons(self) -> list[str]:
        """What is wrong, one line each."""
        found = [f"replication: {self._problem}"] if self._problem else []
        if self._process is not None and self._process.problem:
            found.append(f"replication: {self._process.problem}")
        late = self._late()
        if late:
            name, age_s = _oldest(late)
            what = f"{name} has not been copied for {age_s:.0f} s"
            found.append(f"replication: {what}: {self._why()}")
        return found

    def _why(self) -> str:
        if self._seen:
            return self._failure or "litestream has not come to it"
        if self._replication.mode == "embedded":
            return "litestream does not answer"
        line = configs.start_line(self._replication, self._config)
        return f"no litestream answers, start it: {line}"

    def health(self) -> dict[str, object]:
        """For /health."""
        reasons, process = self.reasons(), self._process
        shown: dict[str, object] = {
            "status": "degraded" if reasons else "ok",
            "mode": self._replication.mode,
            "to": self._replication.shown_url,
            "litestream": "running" if self._seen else "not seen",
            "behind_s": round(max(self._behind.values(), default=0.0), 1),
            "reasons": reasons,
        }
        if process is not None:
            shown["pid"], shown["restarts"] = process.pid, max(0, process.starts - 1)
        if self._restored is not None:
            shown["restored"] = {
                key: self._restored.get(key)
                for key in ("at", "upto", "rpo_s", "lost_flushes", "notices")
            }
        return shown

    def figures(self) -> dict[str, object]:
        """For /metrics."""
        process = self._process
        return {
            "up": int(self._seen),
            "behind_s": max(self._behind.values(), default=0.0),
            "restarts": max(0, process.starts - 1) if process else 0,
        }

    # -- stop

    def reserve_s(self, timeout_s: float) -> float:
        """What the last sync needs of the graceful timeout."""
        if self._replication.mode == "sidecar":
            return 0.0
        return min(MAX_RESERVE_S, RESERVE_SHARE * timeout_s)

    async def close(self, timeout_s: float) -> None:
        """Copy what is left, and end Litestream. Nothing writes any more."""
        process = self._process
        if process is None:
            return
        if not process.is_started:
            log.error("replication: nothing was copied: %s", self._problem)
            return
        deadline_s = self._now_s() + timeout_s
        process.hurry()
        failed = await self._last_sync(max(0.5, min(LAST_SYNC_S, timeout_s - END_S)))
        if failed:
            log.error("replication: the last sync failed, the logs keep what is left: %s", failed)
        await process.close(max(0.5, deadline_s - self._now_s()))
        if not failed:
            log.info("replication: everything is at the replica")

    async def _last_sync(self, timeout_s: float) -> str:
        """Why it failed; empty when everything was copied."""
        socket, reason = self._socket, "no answer"
        if socket is None:
            return ""  # Litestream does it when it ends, and says so in its log
        try:
            async with asyncio.timeout(timeout_s):
                while self._process is not None:
                    try:
                        await self._sync_all(socket, timeout_s)
                        return ""
                    except (OSError, ValueError) as error:
                        # It may only just have been started, or started again.
                        reason = str(error)
                    await asyncio.sleep(LAST_SYNC_AGAIN_S)
        except TimeoutError:
            pass
        return reason

    async def _sync_all(self, socket: Path, timeout_s: float) -> None:
        for path in self._files.values():
            if path.exists():
                await control.sync(socket, path.absolute(), timeout_s)


def _oldest(ages: Mapping[str, float]) -> tuple[str, float]:
    return max(ages.items(), key=lambda item: item[1])


def files_of(plan: Plan, layout: Layout) -> dict[str, Path]:
    """The files of a pipeline that are replicated, by their names at the replica."""
    dlq = plan.delivery.dlq.path
    return configs.replicated_files(layout, plan.storage.shard_count, dlq)


def target_of(plan: Plan, layout: Layout) -> Target:
    """The directory to restore into: that of the plan, or another one with everything in it."""
    own = Layout(plan.storage.data_dir)
    dlq = plan.delivery.dlq.path if layout == own else layout.dlq
    return Target(layout, plan.storage.shard_count, dlq, files_of(plan, own))


def write_litestream_yml(plan: Plan, replication: ReplicationPlan, layout: Layout) -> Path:
    """Write the configuration of Litestream into a directory. Raises ConfigError."""
    own = Layout(plan.storage.data_dir)
    text = configs.litestream_yml(
        replication, files_of(plan, own), configs.socket_path(own), MAX_RESERVE_S
    )
    path = configs.config_path(layout)
    try:
        configs.write_config(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return path


def restore(
    plan: Plan, target: Target, replica: Replica, say: Callable[[str], None]
) -> Restored | None:
    """Restore what is missing; None when nothing is, or the replica is empty."""
    fetched = fetch_missing(target, replica, say)
    if fetched is None:
        return None
    answers_of = [s.name for s in plan.sources if isinstance(s, HttpSourcePlan)]
    return settle(target, fetched, answers_of)


def _tell(text: str) -> None:
    log.info("replication: %s", text)


def _log_restored(found: Restored) -> None:
    log.warning(
        "replication: restored %d files up to %s, %d s ago: what was written after that is lost",
        len(found.files), found.upto or "an earlier attempt", found.rpo_s,
    )  # fmt: skip
    for notice in found.notices:
        log.warning("replication: %s", notice)


def _last_report(layout: Layout) -> Mapping[str, Any] | None:
    try:
        found = json.loads(report_path(layout).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
