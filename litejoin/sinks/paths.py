"""Which files a sink may write. Used by the sinks that keep a file of their own."""

import re
from pathlib import Path

from litejoin.errors import SinkError
from litejoin.plan.nodes import Plan

OUR_FILES = re.compile(r"(lock|manifest\.json|marks|state\.db|dlq\.db|shard-\d+\.db)(-wal|-shm)?")


def check_own_file(sink: str, path: Path, pipeline: Plan) -> None:
    """Raises SinkError for a path whose folder is missing, or that is the pipeline's own file."""
    path = path.resolve()
    if not path.parent.is_dir():
        raise SinkError(
            f"sink {sink}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}"
        )
    data_dir, dlq_path = pipeline.storage.data_dir.resolve(), pipeline.delivery.dlq.path.resolve()
    in_data_dir = path.parent == data_dir and OUR_FILES.fullmatch(path.name)
    if in_data_dir or path == dlq_path or path.is_dir():
        raise SinkError(
            f"sink {sink}: {path} is not a file a sink may write",
            hint="name a file of its own, outside data_dir",
        )
