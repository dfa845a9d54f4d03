"""How the C library's allocator gives memory back: set once, when a pipeline starts.

Called by `app`. By default glibc raises the size from which a block gets pages of its own to that
of the largest block ever freed, up to 32 MB: after the first poll of a large response the next ones
come from the common heap, which keeps their pages and, in pieces, those of several bodies.
"""

import ctypes
import os

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
OWN_PAGES_BYTES = 4 * 1024 * 1024
"""A block of this size has pages of its own and gives them back when it is freed. Smaller ones are
too frequent for that: each page that is new costs a fault.
"""
KEPT_BYTES = 8 * 1024 * 1024
"""What the end of a heap may keep for the next blocks, as without the setting above."""


def settle_allocator() -> bool:
    """Let large blocks go back when they are freed; False where the C library has no such thing.

    What the environment says (MALLOC_MMAP_THRESHOLD_ and the like) stands.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    return bool(
        mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    )
