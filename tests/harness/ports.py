"""Free loopback ports for listeners of a test.

Taken from below the kernel's ephemeral range, so that no outgoing connection of another process
grabs a port between the moment it is found free and the moment the pipeline binds it.
"""

import random
import socket

_FIRST, _LAST = 15_000, 32_000
_given: set[int] = set()
# Seeded by the system on purpose: two suites on one machine must not try the same ports.
_random = random.SystemRandom()


def free_port() -> int:
    """A port nobody listens on now, on loopback and on all interfaces, never given twice."""
    for _ in range(500):
        port = _random.randint(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError(f"no free port between {_FIRST} and {_LAST}")
