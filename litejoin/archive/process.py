"""The runtime's end of the archive's processes: starts one, asks it, notices its end.

Event loop only; nothing here blocks. One request at a time.
"""

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

from litejoin.archive.frames import LENGTH, Header, pack
from litejoin.errors import StorageError, error_classes

CLOSE_S = 5.0
"""How long the worker may take to end once it is not needed; killing it loses nothing."""


class WorkerProcess:
    """A process that is started by the first request, and again after it ended."""

    def __init__(self, opening: Header, module: str = "litejoin.archive.worker") -> None:
        """`opening`: the arguments of its method `open`; `module`: what is run."""
        self._opening, self._module = opening, module
        self._name = module.rpartition(".")[2]
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.opened: Header = {}
        """What it answered when it was opened."""

    @property
    def pid(self) -> int | None:
        """Of the process that runs."""
        return self._process.pid if self._process else None

    async def start(self) -> bool:
        """Start it unless it runs; True when it was started. Raises StorageError and its kin."""
        if self._process is not None:
            return False
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            self.opened = (await self._exchange({"do": "open", **self._opening}))[0]
        except BaseException:
            # One that could not open what it works on answers nothing else.
            await self.close()
            raise
        return True

    async def ask(self, do: str, **arguments: Any) -> Header:
        """The answer to one request."""
        return (await self.ask_bytes(do, **arguments))[0]

    async def ask_bytes(self, do: str, **arguments: Any) -> tuple[Header, bytes]:
        """The answer to one request, and the bytes that come with it. Raises its error, or
        StorageError when it has ended.
        """
        async with self._turn:
            return await self._exchange({"do": do, **arguments})

    async def _exchange(self, request: Header) -> tuple[Header, bytes]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise StorageError(f"archive: its {self._name} does not run")
        try:
            process.stdin.write(pack(request))
            await process.stdin.drain()
            length = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))[0]
            header = json.loads(await process.stdout.readexactly(length))
            body = await process.stdout.readexactly(header.pop("size", 0))
        except (asyncio.IncompleteReadError, OSError, RuntimeError) as error:
            # RuntimeError is how uvloop says that the pipe is closed.
            code = await self._forget(process)
            raise StorageError(
                f"archive: its {self._name} ended with code {code}", hint="it is started again"
            ) from error
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next request.
            await self._forget(process)
            raise
        if "error" in header:
            kind = error_classes().get(header["code"], StorageError)
            raise kind(header["error"], hint=header.get("hint", ""))
        return header, body

    async def _forget(self, process: asyncio.subprocess.Process) -> int:
        self._process = None
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()

    async def close(self) -> None:
        """End the process. May be called twice."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await process.wait()
        except TimeoutError:
            await self._forget(process)
