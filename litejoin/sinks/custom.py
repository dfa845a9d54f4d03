"""Sinks that a user's own package brings, found by entry point (group `litejoin.sinks`).

The entry point names a callable `factory(name, config)` that returns a Sink or a BatchSink of
`sinks.base`; `config` is the sink's mapping of the config file, variables expanded. What it raises
there refuses the start.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from litejoin.errors import LiteJoinError, SinkError
from litejoin.plan.nodes import CustomSinkPlan
from litejoin.sinks.base import Sink

GROUP = "litejoin.sinks"

Factory = Callable[[str, Mapping[str, Any]], Sink]


def make_custom_sink(plan: CustomSinkPlan) -> Sink:
    """Raises SinkError when no installed package has the sink, or its factory fails."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if plan.uses not in found:
        known = ", ".join(sorted(found)) or "none"
        raise SinkError(
            f"sink {plan.name}: no installed package has a sink {plan.uses!r}; there are: {known}",
            hint=f"install the package whose entry points in the group {GROUP} name it",
        )
    try:
        factory: Factory = found[plan.uses].load()
        sink = factory(plan.name, plan.config)
    except LiteJoinError:
        raise
    except Exception as error:
        raise SinkError(
            f"sink {plan.name}: {plan.uses} cannot be made: {type(error).__name__}: {error}",
            hint="look at `config` of the sink, and at the package that brings it",
        ) from error
    missing = [name for name in ("open", "deliver", "close") if not hasattr(sink, name)]
    if missing:
        raise SinkError(
            f"sink {plan.name}: {plan.uses} has no {', '.join(missing)}",
            hint="a sink has the methods of litejoin.sinks.base.Sink",
        )
    return sink
