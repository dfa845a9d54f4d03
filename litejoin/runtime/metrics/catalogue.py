"""Every metric of /metrics: its name, its meaning, and which figure of the running parts it shows.

One line is one metric. A part counts as it likes and shows its figures in its `health()` (or in a
part that `App` adds to `Figures`); the line here says where in them the figure is. A `*` in the
place stands for every name there and becomes a label, in order. What is not there is not shown:
a source that never polls has no polls. Labels come from names of the config and from fixed lists,
never from data: nobody outside can make series. docs/reference/metrics.md is made from this table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["counter", "gauge"]
Read = Callable[[object], float | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. `read` makes a number of what stands at `place`; None: there is none."""

    kind: Kind
    name: str
    help: str
    place: str
    labels: tuple[str, ...]
    read: Read


def number(value: object) -> float | None:
    """A figure as it is."""
    return float(value) if isinstance(value, int | float) else None


def is_ok(value: object) -> float | None:
    """1 for the status "ok", 0 for every other."""
    return float(value == "ok")


def seconds(value: object) -> float | None:
    """Unix seconds of a time as /health writes it."""
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None


def count(value: object) -> float | None:
    """How many there are in a list."""
    return float(len(value)) if isinstance(value, list | tuple) else None


def counter(name: str, text: str, place: str, *labels: str) -> Metric:
    """What only grows, since the start of the process."""
    return Metric("counter", f"{name}_total", text, place, labels, number)


def gauge(name: str, text: str, place: str, *labels: str, read: Read = number) -> Metric:
    """What goes up and down."""
    return Metric("gauge", name, text, place, labels, read)


PIPELINE = (
    gauge("litejoin_up", "1 while everything is well, 0 while /health says anything else.",
          "status", read=is_ok),
    gauge("litejoin_degraded_reasons", "Reasons why /health says degraded.",
          "reasons", read=count),
    gauge("litejoin_build_info", "Always 1; the labels say what runs.",
          "build.*.*.*", "version", "python", "sqlite"),
)  # fmt: skip

SOURCES = (
    gauge("litejoin_source_up", "1 while the source is well, 0 while it is degraded.",
          "sources.*.status", "source", read=is_ok),
    counter("litejoin_source_polls", "Polls begun by an api source.",
            "sources.*.polls", "source"),
    counter("litejoin_source_poll_failures", "Polls that failed; they changed and deleted nothing.",
            "sources.*.failed_polls", "source"),
    counter("litejoin_source_requests", "HTTP requests an api source has sent, tokens included.",
            "sources.*.requests", "source"),
    gauge("litejoin_source_records", "Records an api source knows upstream.",
          "sources.*.records", "source"),
    counter("litejoin_source_changes", "Changes found by polls; op: created, updated, deleted.",
            "sources.*.changes.*", "source", "op"),
    gauge("litejoin_source_held_deletes", "Records gone at once that are kept until a poll agrees.",
          "sources.*.held_deletes", "source"),
    gauge("litejoin_source_last_success_timestamp_seconds", "End of the last poll that succeeded.",
          "sources.*.last_poll", "source", read=seconds),
    gauge("litejoin_source_throttled_until_timestamp_seconds",
          "Until when the API asked to be left alone; absent when it did not.",
          "sources.*.throttled_until", "source", read=seconds),
    counter("litejoin_source_messages", "Messages a kafka source has taken.",
            "sources.*.messages", "source"),
    counter("litejoin_source_bad_messages", "Messages a kafka source could not use.",
            "sources.*.bad_messages", "source"),
    gauge("litejoin_source_lag_messages", "Messages behind the end of a partition of Kafka.",
          "sources.*.lag.*", "source", "partition"),
    gauge("litejoin_source_partitions", "Partitions of Kafka that the group has given to us.",
          "sources.*.partitions", "source"),
    gauge("litejoin_source_stopped_partitions", "Partitions that stopped with an alarm.",
          "sources.*.stopped_partitions", "source"),
    counter("litejoin_source_broker_errors", "Times the client has complained of Kafka's brokers.",
            "sources.*.broker_errors", "source"),
)  # fmt: skip

INGEST = (
    counter("litejoin_ingest_requests", "POST /ingest answered with 200.",
            "sources.*.accepted_requests", "source"),
    counter("litejoin_ingest_rows", "Rows of those requests.",
            "sources.*.accepted_rows", "source"),
    counter("litejoin_ingest_bytes", "Bytes of those requests' bodies, decompressed.",
            "sources.*.accepted_bytes", "source"),
    counter("litejoin_ingest_rejected", "POST /ingest refused; reason: the code in the answer.",
            "sources.*.rejected.*", "source", "reason"),
    gauge("litejoin_http_connections", "Open connections of a listener.",
          "listeners.*.connections", "listener"),
)  # fmt: skip

STORAGE = (
    gauge("litejoin_channel_batches", "Row batches that wait to be written.",
          "channel.batches"),
    gauge("litejoin_channel_capacity_batches", "Row batches that may wait; pushes get 503 beyond.",
          "channel.capacity_batches"),
    gauge("litejoin_channel_bytes", "Bytes of the row batches that wait.",
          "channel.bytes"),
    gauge("litejoin_channel_capacity_bytes", "Bytes that may wait; pushes get 503 beyond.",
          "channel.capacity_bytes"),
    counter("litejoin_channel_refused", "Row batches refused or held back for want of room.",
            "channel.refused"),
    counter("litejoin_writer_batches", "Flushes: one transaction in each shard they touch.",
            "writer.batches"),
    counter("litejoin_writer_rows", "Rows written, diff state of api sources included.",
            "writer.rows"),
    counter("litejoin_writer_seconds", "Time spent writing flushes.",
            "writer.seconds"),
    gauge("litejoin_storage_bytes", "Size of a database file.",
          "files.*.bytes", "file"),
    gauge("litejoin_storage_wal_bytes", "Size of the write-ahead log beside a database file.",
          "files.*.wal_bytes", "file"),
    gauge("litejoin_storage_free_bytes", "Free space on the disk of data_dir.",
          "storage.free_bytes"),
    gauge("litejoin_storage_quarantined_shards", "Shards that are out of service.",
          "storage.quarantined"),
    counter("litejoin_storage_scrub_rounds", "Background checks of all rows and pages.",
            "storage.scrub_rounds"),
    counter("litejoin_storage_returned_bytes", "Space of deleted rows given back to the disk.",
            "storage.returned_bytes"),
    gauge("litejoin_replication_up", "1 while Litestream answers.",
          "replicated.up"),
    gauge("litejoin_replication_behind_seconds", "For how long a file has not been copied.",
          "replicated.behind_s"),
    counter("litejoin_replication_restarts", "Times Litestream was started again.",
            "replicated.restarts"),
)  # fmt: skip

ARCHIVE = (
    gauge("litejoin_archive_rows", "Versions of rows in the archive.",
          "archive.rows"),
    gauge("litejoin_archive_files", "Parquet files of the archive.",
          "archive.files"),
    gauge("litejoin_archive_local_bytes", "Size of those on this machine.",
          "archive.local_bytes"),
    gauge("litejoin_archive_uploaded_bytes", "Size of those with a verified copy elsewhere.",
          "archive.uploaded_bytes"),
    gauge("litejoin_archive_uncopied_bytes", "Size of those on this machine without such a copy.",
          "archive.uncopied_bytes"),
    gauge("litejoin_archive_waiting_files", "Files whose rows are still in SQLite, too.",
          "archive.waiting_files"),
    counter("litejoin_archive_written_rows", "Expired rows that were written into files.",
            "archive.written"),
    counter("litejoin_archive_moved_rows", "Those of them that were deleted from SQLite since.",
            "archive.moved"),
    counter("litejoin_archive_uploads", "Copies that were made and read back.",
            "archive.copies.uploads"),
    counter("litejoin_archive_upload_bytes", "Bytes of those copies.",
            "archive.copies.uploaded_bytes"),
    counter("litejoin_archive_upload_errors", "Rounds of copying that the object store ended.",
            "archive.copies.errors"),
    gauge("litejoin_archive_upload_last_success_timestamp_seconds", "When a copy was last made.",
          "archive.copies.last_success", read=seconds),
)  # fmt: skip

JOINS = (
    gauge("litejoin_join_up", "1 while a join or window is well, 0 while it is degraded.",
          "joins.*.status", "join", read=is_ok),
    counter("litejoin_join_results", "Results a join has added to the log.",
            "joins.*.results", "join"),
    counter("litejoin_join_evaluations", "Times a join was brought up to date.",
            "joins.*.evaluations", "join"),
    counter("litejoin_join_evaluation_seconds", "Time spent on that.",
            "joins.*.evaluation_s", "join"),
    counter("litejoin_join_failures", "Keys and evaluations of a join that failed.",
            "joins.*.failures", "join"),
    counter("litejoin_window_late_messages", "Messages that came after their window had closed.",
            "joins.*.late", "window"),
    counter("litejoin_window_refused_messages", "Messages without a usable time.",
            "joins.*.refused", "window"),
    counter("litejoin_window_left_out_messages", "Messages that a window's query fails over.",
            "joins.*.left_out", "window"),
    counter("litejoin_evaluator_changes", "Changed rows that joins were brought up to date with.",
            "evaluator.changes"),
    gauge("litejoin_evaluator_pending_batches", "Flushes whose results are not computed yet.",
          "evaluator.pending"),
    gauge("litejoin_evaluator_lag_seconds", "How long the oldest of them has waited.",
          "evaluator.lag_s"),
    gauge("litejoin_row_cache_bytes", "Memory of rows that joins look up by key; see row_cache.",
          "row_cache.bytes"),
    counter("litejoin_row_cache_lookups", "Rows looked up by key; a miss reads the shard's file.",
            "row_cache.lookups.*", "result"),
)  # fmt: skip

SINKS = (
    gauge("litejoin_sink_up", "1 while the sink is well, 0 while it is degraded.",
          "sinks.*.status", "sink", read=is_ok),
    counter("litejoin_sink_delivered", "Results the sink has taken.",
            "sinks.*.delivered", "sink"),
    counter("litejoin_sink_failed_attempts", "Attempts that were not taken.",
            "sinks.*.failed", "sink"),
    counter("litejoin_sink_retries", "Further attempts from the dead-letter queue.",
            "sinks.*.retries", "sink"),
    counter("litejoin_sink_dropped", "Results given up at once (best_effort).",
            "sinks.*.dropped", "sink"),
    counter("litejoin_sink_expired", "Results given up at the end of their time in the queue.",
            "sinks.*.expired", "sink"),
    counter("litejoin_sink_superseded", "Queued results that a newer one of their key made void.",
            "sinks.*.superseded", "sink"),
    gauge("litejoin_sink_lag_results", "Results without an outcome yet.",
          "sinks.*.lag_results", "sink"),
    gauge("litejoin_sink_lag_seconds", "Age of the oldest of them.",
          "sinks.*.lag_s", "sink"),
    gauge("litejoin_sink_dlq_entries", "Results in the dead-letter queue.",
          "sinks.*.dlq_entries", "sink"),
    gauge("litejoin_sink_dlq_bytes", "Their bytes.",
          "sinks.*.dlq_bytes", "sink"),
    gauge("litejoin_sink_last_success_timestamp_seconds", "When the sink last took a result.",
          "sinks.*.last_success", "sink", read=seconds),
    gauge("litejoin_sse_clients", "Subscribers of an SSE sink's listener.",
          "sinks.*.clients", "sink"),
    gauge("litejoin_sse_clients_behind", "Those of them that are catching up.",
          "sinks.*.behind", "sink"),
    counter("litejoin_sse_events", "Events handed to connections of subscribers.",
            "sinks.*.events", "sink"),
)  # fmt: skip

PROCESS = (
    gauge("process_resident_memory_bytes", "Resident memory of the process.",
          "process.resident_bytes"),
    gauge("process_virtual_memory_bytes", "Virtual memory of the process.",
          "process.virtual_bytes"),
    counter("process_cpu_seconds", "CPU time of the process, user and system.",
            "process.cpu_s"),
    gauge("process_start_time_seconds", "When the process started, Unix time.",
          "process.started_s"),
    gauge("process_open_fds", "Open files, sockets included.",
          "process.open_fds"),
    gauge("process_max_fds", "Files that may be open.",
          "process.max_fds"),
    gauge("process_threads", "Threads of the process.",
          "process.threads"),
)  # fmt: skip

GROUPS = {
    "The pipeline": PIPELINE,
    "Sources": SOURCES,
    "Ingest and listeners": INGEST,
    "Channel, writer, files": STORAGE,
    "Archive": ARCHIVE,
    "Joins and windows": JOINS,
    "Sinks and subscribers": SINKS,
    "The process": PROCESS,
}
CATALOGUE: tuple[Metric, ...] = tuple(metric for group in GROUPS.values() for metric in group)
