"""Becomes Litestream, as a process that ends with the one that started it.

Run as `python -m litejoin.replica.guard PARENT PROGRAM ARGUMENTS..`. A LiteJoin that is killed
cannot stop its Litestream; left alone that would go on beside the one of the next start, and two of
them on one replica spoil it. So the kernel is asked to kill it when the parent is gone (Linux;
elsewhere the next start ends it). What it has not copied is still in the write-ahead logs.

Not SIGTERM, upon which it would copy what is left: the kernel sends the signal once for each thread
of the parent that it tries as the new parent, and a second one makes Litestream skip that copy, so
that it would be done sometimes.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass
    if os.getppid() != parent:
        sys.exit(1)  # it was gone before the kernel was asked
    os.execv(program, [program, *sys.argv[3:]])


if __name__ == "__main__":
    main()
