"""The other end of litejoin.archive.process: a process that answers requests from stdin.

One request after the other, with lower priority than the pipeline; it ends with its parent.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any, BinaryIO, Protocol

import apsw

from litejoin.archive.frames import LENGTH, Header, pack
from litejoin.errors import LiteJoinError

NICENESS = 10
"""The pipeline goes first on a busy machine: rows that wait a little longer cost nothing."""

PR_SET_PDEATHSIG = 1

Answer = Header | tuple[Header, bytes]


class Service(Protocol):
    """An object whose methods requests name."""

    def close(self) -> None:
        """Let go of everything."""
        ...


def answer(service: Service, request: Header) -> bytes:
    """Do what a request names."""
    method = getattr(service, request.pop("do"))
    try:
        found: Answer = method(**request)
    except LiteJoinError as error:
        return pack({"error": str(error), "code": error.code, "hint": error.hint})
    except (OSError, apsw.Error, MemoryError) as error:
        return pack({"error": f"archive: {error or type(error).__name__}", "code": "LJ-SQL"})
    return pack(*found) if isinstance(found, tuple) else pack(found)


def serve(service: Service, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the parent closes its end."""
    try:
        while head := requests.read(LENGTH.size):
            request: dict[str, Any] = json.loads(requests.read(LENGTH.unpack(head)[0]))
            answers.write(answer(service, request))
            answers.flush()
    finally:
        service.close()


def serve_parent(service: Service) -> None:
    """What a process of this kind does."""
    if sys.platform == "linux":
        # A killed parent closes nothing: ask Linux to end this process, too.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the parent decides
    os.nice(NICENESS)
    serve(service, sys.stdin.buffer, sys.stdout.buffer)
