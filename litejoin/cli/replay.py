"""What `run --replay` needs: recorded answers for api sources, and a data directory of its own.

A replay must not touch the data of the real pipeline: its records, watermarks and tokens would be
those of the recording.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from litejoin.cli.config import Loaded
from litejoin.cli.polling import Poller
from litejoin.errors import ConfigError
from litejoin.plan.nodes import Plan
from litejoin.sources.api.transport import Transport


def replay_transports(loaded: Loaded, given: Sequence[str]) -> dict[str, Transport]:
    """The recordings of `SOURCE=DIR` options, by source. Raises ConfigError for what is none."""
    found: dict[str, Transport] = {}
    for option in given:
        name, equals, directory = option.partition("=")
        if not equals or not directory:
            raise ConfigError(f"--replay {option}: give SOURCE=DIR")
        found[name] = Poller.of(loaded, name).replay(Path(directory))
    return found


@contextmanager
def temporary_plan(plan: Plan) -> Iterator[Plan]:
    """The plan with its own files in a directory that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="litejoin-replay-") as folder:
        data_dir = Path(folder) / "data"
        dlq = replace(plan.delivery.dlq, path=data_dir / "dlq.db")
        yield replace(
            plan,
            storage=replace(plan.storage, data_dir=data_dir),
            delivery=replace(plan.delivery, dlq=dlq),
            replication=None,
        )
