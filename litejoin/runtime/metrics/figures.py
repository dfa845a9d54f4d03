"""The figures of all parts as one tree, and the samples that the catalogue finds in it.

The tree is what /health says, and beside it what `add` was given: a name and a call that returns
numbers and nested mappings. Gathered on the event loop, so no part may block.
"""

from collections.abc import Callable, Iterator, Mapping

from litejoin.runtime.metrics.catalogue import Metric

Part = Callable[[], object]
Sample = tuple[tuple[str, ...], float]


class Figures:
    """All parts that count. Event loop only."""

    def __init__(self, health: Callable[[], Mapping[str, object]]) -> None:
        self._health = health
        self._parts: dict[str, Part] = {}

    def add(self, name: str, part: Part) -> None:
        """Show what `part` returns under `name`. It is called for every scrape and must be quick.

        Raises ValueError when the name is taken.
        """
        if name in self._parts:
            raise ValueError(f"figures of {name} are there already")
        self._parts[name] = part

    def gather(self) -> dict[str, object]:
        """The tree as of now."""
        tree = dict(self._health())
        for name, part in self._parts.items():
            tree[name] = part()
        return tree


def samples(metric: Metric, tree: object) -> Iterator[Sample]:
    """The values of one metric, each with its labels."""
    for labels, value in _places(tree, metric.place.split(".")):
        read = metric.read(value)
        if read is not None:
            yield labels, read


def _places(tree: object, path: list[str]) -> Iterator[tuple[tuple[str, ...], object]]:
    if not path:
        yield (), tree
        return
    if not isinstance(tree, Mapping):
        return
    step, rest = path[0], path[1:]
    if step != "*":
        if step in tree:
            yield from _places(tree[step], rest)
        return
    for name, below in tree.items():
        for labels, value in _places(below, rest):
            yield (str(name), *labels), value
