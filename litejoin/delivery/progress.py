"""Which results of a sink have an outcome: the arithmetic of one cursor. No I/O."""

from collections import deque


class Progress:
    """Positions in flight, taken in rising order and ended in any order."""

    def __init__(self, pos: int) -> None:
        self._reached = pos
        self._open: deque[int] = deque()
        self._ended: set[int] = set()

    @property
    def reached(self) -> int:
        """The log has been read up to here."""
        return self._reached

    @property
    def cursor(self) -> int:
        """The highest position with an outcome for everything at or below it."""
        return self._open[0] - 1 if self._open else self._reached

    @property
    def span(self) -> int:
        """Results between the cursor and the last one taken, with or without an outcome."""
        return len(self._open)

    @property
    def ended_ahead(self) -> int:
        """Results after the cursor that have an outcome already."""
        return len(self._ended)

    def begin(self, pos: int) -> None:
        """A result is in flight from now on."""
        self._open.append(pos)

    def reach(self, pos: int) -> None:
        """Everything up to `pos` has begun, or is none of this sink's."""
        self._reached = pos

    def end_all(self) -> None:
        """Everything in flight has its outcome."""
        self._open.clear()
        self._ended.clear()

    def end(self, pos: int) -> None:
        """A result has its outcome."""
        self._ended.add(pos)
        while self._open and self._open[0] in self._ended:
            self._ended.discard(self._open.popleft())
