"""How many bytes of request bodies the listeners of a process hold at once.

Charged as the bytes arrive, not when a length is announced: a client that announces much and sends
little takes nothing from the others. Event loop only.
"""

LEAST_BYTES = 16 * 1024 * 1024
"""Bodies of requests without an answer yet. What is beyond is refused with 503: a queue of bodies
would grow with the number of clients."""


class BodyBudget:
    """One for all listeners. A request takes from it for each part of its body and gives all of it
    back when it is answered, refused or lost.
    """

    def __init__(self, largest_body_bytes: int) -> None:
        self.max_bytes = max(LEAST_BYTES, 2 * largest_body_bytes)
        self.held = 0

    def take(self, size: int) -> bool:
        """Hold `size` bytes more; False, and nothing is held, when that is too much."""
        if self.held + size > self.max_bytes:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Hold `size` bytes less."""
        self.held -= size
