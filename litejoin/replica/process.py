"""Runs Litestream as a child: starts it, again when it ends or hangs, and ends it with a last sync.

Event loop only. Its log lines become ours.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from litejoin.replica import control
from litejoin.replica.binary import environment

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
"""Between two starts; doubled each time, until one has run for so long."""

HUNG_S = 20.0
"""Without an answer from its socket, Litestream hangs: it is killed. Its answers do not wait for
the replica, so this is the time of a machine under heavy load, and of an object store's never."""

ASK_S = 5.0
ORPHAN_S = 10.0
"""How long the Litestream of a process that was killed may take to copy what is left."""

LINE_BYTES = 1 << 20

QUIET_S = 60.0
"""The same complaint is logged again after so long: eleven files have the same trouble at once."""

LEVELS = {"WARN": logging.WARNING, "ERROR": logging.ERROR}

log = logging.getLogger("litejoin.replication")


class LitestreamProcess:
    """One Litestream, watched."""

    def __init__(self, command: Sequence[str], socket: Path | None, config: Path) -> None:
        """`command`: the program and its arguments."""
        self._command = command
        self._socket, self._config = socket, config
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._started_s = self._answered_s = 0.0
        self._said: dict[str, float] = {}
        self._stopping = False
        self._hurry = asyncio.Event()
        self.starts = 0
        self.problem = "litestream has not been started"
        """Why it does not run; empty while it does."""

    @property
    def is_started(self) -> bool:
        """It is to be running, whether it is or not."""
        return self._task is not None

    @property
    def pid(self) -> int | None:
        """Of the process that runs."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """End one that was left behind, and keep one running from now on."""
        await self._end_orphan()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            code = await self._run_once()
            if self._stopping:
                return
            if _now() - self._started_s >= MAX_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            self.problem = f"litestream ended with code {code}, started again in {pause_s:g} s"
            log.error(
                "replication: litestream ended with code %d, started again in %g s", code, pause_s
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
            pause_s = FIRST_PAUSE_S if self._hurry.is_set() else min(2 * pause_s, MAX_PAUSE_S)
            self._hurry.clear()

    async def _run_once(self) -> int:
        self._started_s = self._answered_s = _now()
        # Both ends are its own, too: a line that it writes after we are gone must not end it
        # (SIGPIPE) before it has copied what is left.
        ours, its = os.pipe()
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "litejoin.replica.guard", str(os.getpid()), *self._command,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=its, pass_fds=(ours,), env=environment(),
                start_new_session=True,  # Ctrl-C is for LiteJoin, which ends it last
            )  # fmt: skip
        except OSError as error:
            log.error("replication: litestream cannot be started: %s", error)
            os.close(ours)
            return -1
        finally:
            os.close(its)
        self.starts += 1
        self.problem = ""
        try:
            await self._log_lines(ours)
            return await process.wait()
        finally:
            self._process = None

    async def _log_lines(self, fd: int) -> None:
        """Until the other end is closed."""
        stream = asyncio.StreamReader(LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(fd, "rb")
        )
        try:
            while line := await _line(stream):
                self._log(line)
        finally:
            transport.close()

    def _log(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            level = LEVELS.get(str(found["level"]), logging.DEBUG)
            text, error = str(found["msg"]), str(found.get("error", ""))
            name = str(found.get("db", ""))
        except (ValueError, KeyError, TypeError):
            level, text, error, name = logging.WARNING, line.decode("utf-8", "replace"), "", ""
        now_s = _now()
        if level > logging.DEBUG:
            what = f"{text} {error}".replace(name, "") if name else f"{text} {error}"
            if now_s - self._said.get(what, -QUIET_S) < QUIET_S:
                return
            self._said = {k: at for k, at in self._said.items() if now_s - at < QUIET_S}
            self._said[what] = now_s
        parts = (f"{name}: " if name else "", text.strip(), f": {error}" if error else "")
        log.log(level, "litestream: %s", "".join(parts))

    def hurry(self) -> None:
        """Do not wait with the next start: there is something to copy before the end."""
        if self._process is None:
            self._hurry.set()

    def answered(self) -> None:
        """Its socket has answered just now."""
        self._answered_s = _now()

    def is_hung(self) -> bool:
        """It runs and has not answered for HUNG_S."""
        return self._process is not None and _now() - self._answered_s >= HUNG_S

    def kill(self) -> None:
        """End it at once: it is started again. What it had not copied is still in the logs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def close(self, timeout_s: float) -> None:
        """End it: SIGTERM, upon which it copies what is left, then SIGKILL. May be called twice."""
        self._stopping = True
        if self._task is None:
            return
        self._hurry.set()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        done, _ = await asyncio.wait([self._task], timeout=max(0.1, timeout_s))
        if not done:
            log.warning("replication: litestream did not end in %.1f s and is killed", timeout_s)
            self.kill()
            await asyncio.wait([self._task], timeout=ASK_S)

    async def _end_orphan(self) -> None:
        """A Litestream of this directory whose LiteJoin is gone must end before another starts."""
        if self._socket is None or not self._socket.exists():
            return
        try:
            async with asyncio.timeout(ASK_S):
                info = await control.ask(self._socket, "/info")
            pid = int(info["pid"])
            is_ours = str(self._config.absolute()).encode() in _command_of(pid)
        except (OSError, ValueError, KeyError, TimeoutError):
            return
        if not is_ours:
            return
        log.info("replication: waiting for the litestream of the last run (pid %d)", pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
            for _ in range(round(ORPHAN_S * 10)):
                if not _command_of(pid):
                    return
                await asyncio.sleep(0.1)


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError:  # longer than LINE_BYTES: the rest comes as a line of its own
        return b"(a line that is too long)\n"


def _command_of(pid: int) -> bytes:
    """The command line of a process; empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _now() -> float:
    return asyncio.get_running_loop().time()
