"""Which files a sink may write. Used by the sinks that keep a file of their own."""

from pathlib import Path

from litejoin.errors import SinkError
from litejoin.own_files import is_of_database, is_stored
from litejoin.plan.nodes import Plan


def check_own_file(sink: str, path: Path, pipeline: Plan) -> None:
    """Raises SinkError for a path whose folder is missing, or that is the pipeline's own file."""
    path = path.resolve()
    data_dir, dlq_path = pipeline.storage.data_dir.resolve(), pipeline.delivery.dlq.path.resolve()
    is_own = is_stored(path, data_dir) or is_of_database(path, dlq_path)
    if is_own or path == Path(pipeline.file).resolve() or path.is_dir():
        raise SinkError(
            f"sink {sink}: {path} is not a file a sink may write",
            hint="name a file of its own, outside data_dir",
        )
    if not path.parent.is_dir():
        raise SinkError(
            f"sink {sink}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}"
        )
