"""What a plan says of rows beside the shards: the archive and the replica, as text and as JSON.

Called by `explain_text` and `explain_json`. Takes a plan whose secrets are masked already.
"""

from collections.abc import Iterable

from litejoin.plan.layout import wrapped
from litejoin.plan.nodes import ArchivePlan, CloudPlan, Plan, ReplicationPlan
from litejoin.plan.redact import shown_url
from litejoin.plan.units import duration_text, megabytes_text

Tree = dict[str, object]


def archive_lines(plan: Plan) -> Iterable[str]:
    """What is moved where and when; nothing without an archive."""
    archive = plan.storage.archive
    if archive is None:
        return
    moved = [topic.name for topic in plan.topics if topic.retention_ms is not None]
    if not moved:
        yield "  nothing is moved: no topic has a retention"
        return
    of = "" if len(moved) == len(plan.topics) else f" of {', '.join(moved)}"
    folder = plan.storage.data_dir / "archive"
    shown = folder if folder.is_absolute() else f"./{folder}"
    text = (
        f"  rows{of} older than their retention go to Parquet files in {shown}"
        f" every {duration_text(archive.compaction_interval_ms)}: {archive.compression}, up to"
        f" {_size(archive.target_file_bytes)} each, kept here"
        f" {duration_text(archive.local_retention_ms)}"
    )
    yield from wrapped(text)
    if archive.cloud is not None:
        yield from wrapped(
            f"  copied to {_bucket(archive.cloud)} and kept there; queries fetch files back, up to"
            f" {_size(archive.cloud.cache_bytes)} on disk"
        )
    else:
        yield "  then deleted: no cloud has copies"


def archive_tree(archive: ArchivePlan | None) -> Tree | None:
    """The same for scripts."""
    if archive is None:
        return None
    return {
        "compaction_interval_ms": archive.compaction_interval_ms,
        "target_file_bytes": archive.target_file_bytes,
        "compression": archive.compression,
        "local_retention_ms": archive.local_retention_ms,
        "copied_to": _bucket(archive.cloud) if archive.cloud else None,
    }


def _bucket(cloud: CloudPlan) -> str:
    """The place of the copies, without credentials: `s3 bucket b/prefix at http://minio:9000`."""
    prefix = f"/{cloud.prefix.strip('/')}" if cloud.prefix.strip("/") else ""
    at = f" at {shown_url(cloud.endpoint)}" if cloud.endpoint else ""
    return f"{cloud.provider} bucket {cloud.bucket}{prefix}{at}"


def replication_lines(replication: ReplicationPlan | None) -> Iterable[str]:
    """Where the data files are copied to; nothing without replication."""
    if replication is not None:
        every, kept = replication.sync_interval_ms, replication.retention_ms
        yield from wrapped(
            f"  {replication.shown_url}   {replication.mode}, every {duration_text(every)}, kept"
            f" {duration_text(kept)}"
        )


def replication_tree(replication: ReplicationPlan | None) -> Tree | None:
    """The same for scripts."""
    if replication is None:
        return None
    return {
        "mode": replication.mode,
        "to": replication.shown_url,
        "sync_interval_ms": replication.sync_interval_ms,
        "retention_ms": replication.retention_ms,
    }


def _size(size_bytes: int) -> str:
    return megabytes_text(size_bytes / (1 << 20))
