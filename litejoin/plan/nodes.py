"""The execution plan: frozen values that `validate`, `plan` and `run` share.

The vocabulary of the program: every stage reads these and nothing here does anything. Durations are
milliseconds, sizes bytes, names as in the config. Two plans compare equal when they do the same.
Secrets are `Secret`, whose repr is `***`. This is one file because it is one vocabulary: values
without behaviour, read side by side.
"""

import json
from collections.abc import Mapping
from dataclasses import field
from math import gcd
from pathlib import Path
from typing import Literal

from litejoin.frozen import dataclass
from litejoin.plan.nodes_api import (
    ActionPlan,
    AdaptivePlan,
    ApiTlsPlan,
    AuthPlan,
    ForEachPlan,
    PagingKind,
    PagingPlan,
    RatePlan,
    RetryPlan,
    WatermarkPlan,
)
from litejoin.plan.nodes_api import Secret as Secret
from litejoin.plan.nodes_native import GroupedPlan as GroupedPlan
from litejoin.plan.nodes_native import NativePlan as NativePlan


@dataclass(frozen=True, slots=True)
class Place:
    """A position in the config file, lines and columns from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Address:
    """A listening address. `host` "" means all interfaces; `explicit` is False for the default."""

    host: str
    port: int
    explicit: bool = True

    @property
    def is_public(self) -> bool:
        return self.host not in ("127.0.0.1", "::1", "localhost")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class CloudPlan:
    """The object store that has copies of the archive's files."""

    provider: Literal["s3", "gcs", "azure"]
    bucket: str
    prefix: str
    region: str
    endpoint: str
    cache_bytes: int
    options: Mapping[str, Secret] = field(default_factory=dict)
    """Credentials, by obstore's names; the environment has the others."""


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """What becomes of rows that a topic no longer keeps."""

    compaction_interval_ms: int
    target_file_bytes: int
    compression: Literal["snappy", "zstd", "none"]
    memory_limit_bytes: int
    local_retention_ms: int
    cloud: CloudPlan | None = None


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """Where topics are kept, and how often and how safely they are written."""

    data_dir: Path
    shard_count: int
    reader_pool_size: int
    batch_size: int
    flush_interval_ms: int
    synchronous: Literal["full", "normal"]
    row_cache_bytes: int
    archive: ArchivePlan | None = None
    """None: rows that are too old are deleted."""
    scrub_interval_ms: int = 0
    """0: rows and pages are not checked in the background."""
    scrub_bytes_per_s: int = 8_000_000
    warn_free_bytes: int = 0
    min_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DlqPlan:
    """The dead-letter queue: where it is, how it retries, how large it may grow."""

    path: Path
    retry_interval_ms: int
    max_retries: int
    """0 = until `ttl_ms`."""
    backoff_multiplier: float
    max_backoff_ms: int
    ttl_ms: int
    max_size_bytes: int
    cleanup_interval_ms: int


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """What is promised about results that a sink did not take."""

    guarantee: Literal["best_effort", "at_least_once"]
    dlq: DlqPlan


@dataclass(frozen=True, slots=True)
class ReplicationPlan:
    """How the data files are replicated by Litestream."""

    mode: Literal["sidecar", "embedded"]
    written_url: str
    """`replica_url` for Litestream: a `${NAME}` of the environment is left for it to expand."""
    expands: bool
    """The URL has such a `${NAME}`."""
    shown_url: str
    """For people: without credentials and query."""
    sync_interval_ms: int
    restore_on_boot: bool
    snapshot_interval_ms: int
    retention_ms: int


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and what it opens."""

    value: Secret
    scopes: frozenset[str]
    """Of "ingest", "subscribe", "admin"."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds on what a client may send (security.md)."""

    max_body_bytes: int
    max_rows: int
    max_depth: int
    max_key_bytes: int
    max_row_bytes: int
    max_connections: int
    max_sse_clients: int
    header_timeout_ms: int
    idle_timeout_ms: int


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """The admin listener and what holds for every listener."""

    addr: Address
    tokens: tuple[Token, ...]
    tls_cert_file: Path | None
    tls_key_file: Path | None
    cors_origins: tuple[str, ...]
    limits: ServerLimits


@dataclass(frozen=True, slots=True)
class ApiSourcePlan:
    """A polled REST API."""

    name: str
    topic: str
    url: str
    method: Literal["GET", "POST", "PUT"]
    interval_ms: int
    key_path: tuple[str, ...]
    """gjson paths; several make a composite key joined by ":"."""
    response_path: str
    change_detection: Literal["diff", "hash"]
    detect_deletes: bool
    timeout_ms: int
    initial_snapshot: bool
    headers: Mapping[str, Secret]
    body: str | None
    max_consecutive_failures: int
    ignore_fields: tuple[str, ...]
    max_response_bytes: int
    pagination: PagingKind = "none"
    min_pages: int = 1
    """Pages that a poll walks at least; equal to `max_pages` where the config fixes the number."""
    max_pages: int = 1
    allowed_per_minute: float | None = None
    """The config's own rate limit; None when it names none."""
    shown_url: str = ""
    """The URL as the config writes it, secrets masked: for logs and `plan`."""
    rate_group: str = ""
    """Sources of one group share their rate limits; empty: those of one host do."""
    fastest_interval_ms: int | None = None
    """With `adaptive`: the shortest interval."""
    parent_topic: str | None = None
    """With `for_each`: one walk for each record of this topic."""
    params: Mapping[str, str] = field(default_factory=dict)
    paging: PagingPlan = field(default_factory=PagingPlan)
    auth: AuthPlan | None = None
    watermark: WatermarkPlan = field(default_factory=WatermarkPlan)
    rate: RatePlan = field(default_factory=RatePlan)
    retry: RetryPlan = field(default_factory=RetryPlan)
    adaptive: AdaptivePlan | None = None
    response_actions: tuple[ActionPlan, ...] = ()
    for_each: ForEachPlan | None = None
    on_duplicate_key: Literal["last", "first", "error"] = "last"
    on_missing_key: Literal["error", "skip"] = "skip"
    follow_redirects: bool = False
    """To the same origin only."""
    tls: ApiTlsPlan = field(default_factory=ApiTlsPlan)
    proxy: Secret | None = None
    type: Literal["api"] = "api"


@dataclass(frozen=True, slots=True)
class WebhookPlan:
    """Any JSON at `/ingest/{topic}` instead of rows at `/ingest`."""

    key_path: tuple[str, ...]
    secrets: tuple[Secret, ...] = ()
    """Secrets that sign requests; none: requests are not signed."""


@dataclass(frozen=True, slots=True)
class HttpSourcePlan:
    """Rows pushed to `POST /ingest`."""

    name: str
    topics: tuple[str, ...]
    """Empty: any topic, created when first seen."""
    addr: Address
    webhook: WebhookPlan | None = None
    type: Literal["http"] = "http"


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """TLS and SASL, in librdkafka's words."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
    mechanism: str
    username: str
    password: Secret
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class KafkaSourcePlan:
    """Records of Kafka topics."""

    name: str
    topics: tuple[str, ...]
    """Topics here, in the order of `kafka_topics`."""
    kafka_topics: tuple[str, ...]
    """Names, and patterns that begin with `^`."""
    brokers: str
    group_id: str
    key_path: tuple[str, ...] = ()
    """gjson paths into the value; empty: the message's key."""
    meta: str | None = None
    """The member of the value that tells where the message comes from, and its headers."""
    value_format: Literal["json", "text"] = "json"
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    on_bad_message: Literal["skip", "stop", "dlq"] = "skip"
    dlq_topic: str | None = None
    on_lost_offset: Literal["stop", "earliest", "latest"] = "stop"
    security: KafkaSecurity | None = None
    options: Mapping[str, Secret] = field(default_factory=dict)
    """More settings of librdkafka, as the config has them."""
    type: Literal["kafka"] = "kafka"


SourcePlan = ApiSourcePlan | HttpSourcePlan | KafkaSourcePlan


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """A key map from the value of `expression` (over one row of the topic) to rows.

    `column` is the hidden column of the topic's table that delta queries probe, such as "lj:1".
    `path` is how people read it: "$.user_id".
    """

    column: str
    expression: str
    is_text: bool
    """True when values are compared as TEXT (the other side of the equality is a TEXT column)."""
    path: str
    used_by: tuple[str, ...]
    laterals: str = ""
    """json_each and json_tree beside the row: then one row can have several values."""

    @property
    def definition(self) -> tuple[str, bool, str]:
        """What topic tables take."""
        return self.expression, self.is_text, self.laterals


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic: its shards, retention and the key maps that joins need."""

    name: str
    shards: int
    retention_ms: int | None
    indexes: tuple[IndexPlan, ...]
    fed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why incremental evaluation is lost, and where in the config file."""

    message: str
    place: Place | None
    rewrite: str = ""
    """How to write the query so that it is kept up to date by parts."""


@dataclass(frozen=True, slots=True)
class ReferencePlan:
    """One topic reference of a join and how its changes reach the result."""

    topic: str
    alias: str
    strategy: Literal["native", "delta", "full"]
    through: str
    """"by key", "through orders.$.user_id", or the reason of a full re-evaluation."""
    index: str | None
    affected_sql: str | None
    """Selects the result keys that changed rows of this reference may affect (delta only)."""
    query_plan: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """One join: its query, its key, and how it is kept up to date."""

    name: str
    query: str
    place: Place
    columns: tuple[str, ...]
    key_column: str
    key_index: int
    """Position of the key in `columns`."""
    sinks: tuple[str, ...]
    emit: Literal["changes", "all"]
    on_delete: Literal["emit", "ignore"]
    json_columns: tuple[str, ...]
    strategy: Literal["native", "delta", "full"]
    reasons: tuple[Reason, ...]
    references: tuple[ReferencePlan, ...]
    refresh_sql: str
    """Delta: recomputes the groups whose keys are in "lj:affected". Full: the query itself."""
    refresh_null_sql: str | None
    """Delta: recomputes the group whose key is NULL."""
    refresh_plan: tuple[str, ...]
    ordered: bool = False
    """The query has its own ORDER BY, so the order of a key's rows is part of its result."""
    native: NativePlan | None = None
    """Native only; the delta statements stand by for rows that native code is not sure of."""
    grouped: GroupedPlan | None = None
    """The same of a query with GROUP BY: its groups are kept as accumulators."""
    full_sql: str = ""
    """The query as it is run from scratch; "": as written."""
    emit_expired: bool = False
    """The query compares with the clock, and its results are to change as time passes."""
    expanded: str = ""
    """The query with the joins and windows that it reads in place; "" when it reads none."""
    on_change: Literal["emit", "silent"] = "emit"
    """What becomes of results that differ when the join itself was added or changed."""
    windows: tuple[str, ...] = ()
    """The windows whose results it reads."""

    @property
    def definition(self) -> str:
        """The text that stored results depend on: another one makes the join be computed anew."""
        query = self.expanded or self.query
        return json.dumps([query, self.columns, self.key_column, self.json_columns])


def relation_of(window: str) -> str:
    """The name under which the engine keeps the results of a window for joins: a relation like a
    topic. No topic has a colon in its name.
    """
    return f"{window}:results"


@dataclass(frozen=True, slots=True)
class PaneAggregate:
    """COUNT, SUM, AVG, MIN or MAX of one of the values; None is COUNT(*)."""

    name: str
    value: int | None


@dataclass(frozen=True, slots=True)
class PanePlan:
    """A window's query as partial results of short spans, which are merged when it fires."""

    where: str | None
    alias: str
    """The topic's name in `where`, `groups` and `values`."""
    groups: tuple[str, ...]
    group_types: tuple[str, ...]
    values: tuple[str, ...]
    aggregates: tuple[PaneAggregate, ...]
    final_sql: str
    """The query over a table `merged` with a row a group: g0.. are the groups, a0.. the
    aggregates."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """One window over a topic."""

    name: str
    type: Literal["tumbling", "sliding", "session"]
    topic: str
    query: str
    place: Place
    size_ms: int | None
    slide_ms: int | None
    gap_ms: int | None
    buffer_bound_ms: int | None
    """For how long a message is held at most; None: as long as its session goes on."""
    sinks: tuple[str, ...]
    allowed_lateness_ms: int = 0
    columns: tuple[str, ...] = ()
    key_index: int | None = None
    """Position of the result key in `columns`; None: the partition is the key, or null."""
    json_columns: tuple[str, ...] = ()
    time_path: str | None = None
    """gjson path of the event time; None: the time of ingestion."""
    time_format: Literal["auto", "rfc3339", "unix_s", "unix_ms"] = "auto"
    on_late: Literal["drop", "update", "sink"] = "drop"
    late_sink: str | None = None
    partition_by: str | None = None
    offset_ms: int = 0
    timezone: str | None = None
    """Tumbling windows of whole days: the zone whose days they are."""
    emit: Literal["close", "update"] = "close"
    panes: PanePlan | None = None
    """How the query is had from partial results; None: it is run over the messages."""
    no_panes: Reason | None = None
    """Why it cannot be had from them."""
    idle_timeout_ms: int = 10_000
    """Event time: after so long without a message, the wall clock counts."""
    read_by: tuple[str, ...] = ()
    """The joins that read its results."""
    indexes: tuple[IndexPlan, ...] = ()
    """The key maps of its results that they need."""

    @property
    def definition(self) -> str:
        """The text that its spans depend on: another one makes the window start anew."""
        return json.dumps(
            [self.type, self.size_ms, self.slide_ms, self.gap_ms, self.offset_ms, self.timezone,
             self.time_path, self.time_format, self.partition_by, self.topic]
        )  # fmt: skip

    @property
    def uses_panes(self) -> bool:
        """True when its spans are merged from panes. A message that is in one span, whose result is
        had once, is read only once anyway.
        """
        is_read_often = (self.slide_ms or self.size_ms) != self.size_ms or self.emit == "update"
        return self.panes is not None and is_read_often

    @property
    def pane_ms(self) -> int:
        """The length of a pane: every span is some of them."""
        return gcd(self.size_ms or 1, self.slide_ms or 0)

    @property
    def late_name(self) -> str:
        """The name under which late messages are results, with `on_late: sink`."""
        return f"{self.name}.late"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS towards a receiver. Paths are PEM files; None: the system's, or none."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class ResponseClasses:
    """What a webhook's answers mean: statuses such as "429" and classes such as "5xx"."""

    delivered: tuple[str, ...] = ("2xx",)
    retry: tuple[str, ...] = ("408", "425", "429", "5xx")
    stop: tuple[str, ...] = ("410",)
    park: tuple[str, ...] = ("3xx", "4xx")


@dataclass(frozen=True, slots=True)
class HttpSinkPlan:
    """A webhook."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    url: str
    method: Literal["POST", "PUT", "PATCH"]
    timeout_ms: int
    headers: Mapping[str, Secret]
    """With what `auth` adds."""
    max_in_flight: int
    shown_url: str = ""
    """The URL as the config writes it, secrets masked: for logs and `plan`."""
    query: Mapping[str, Secret] = field(default_factory=dict)
    """Parameters that `auth` adds to the URL."""
    secrets: tuple[Secret, ...] = ()
    """They sign requests; several while one is being replaced."""
    responses: ResponseClasses = ResponseClasses()
    max_batch: int = 0
    """Results of one request as a JSON array; 0: one result a request, not in an array."""
    tls: ClientTls = ClientTls()
    type: Literal["http"] = "http"


@dataclass(frozen=True, slots=True)
class SseSinkPlan:
    """Browsers and curl: `/subscribe` and `/snapshot`."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    addr: Address
    type: Literal["sse"] = "sse"


@dataclass(frozen=True, slots=True)
class SqliteSinkPlan:
    """A SQLite file with the current results."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    path: Path
    table: str | None
    """None: one table per join, named as the join."""
    type: Literal["sqlite"] = "sqlite"


@dataclass(frozen=True, slots=True)
class StdoutSinkPlan:
    """Results as JSON lines on standard output."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    type: Literal["stdout"] = "stdout"


@dataclass(frozen=True, slots=True)
class KafkaSinkPlan:
    """A Kafka topic that receives results."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    brokers: str
    topic: str
    value: Literal["result", "rows"] = "result"
    timeout_ms: int = 30_000
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    security: KafkaSecurity | None = None
    options: Mapping[str, Secret] = field(default_factory=dict)
    """More settings of librdkafka, as the config has them."""
    type: Literal["kafka"] = "kafka"


@dataclass(frozen=True, slots=True)
class FileSinkPlan:
    """A file of JSON lines."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    path: Path
    max_bytes: int
    """Size at which a new file is started; 0: never."""
    keep: int
    """Full files that are kept."""
    type: Literal["file"] = "file"


@dataclass(frozen=True, slots=True)
class PostgresSinkPlan:
    """PostgreSQL tables with the current results."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    dsn: Secret
    table: str | None
    """None: one table per join, named as the join."""
    type: Literal["postgres"] = "postgres"


@dataclass(frozen=True, slots=True)
class CustomSinkPlan:
    """A sink that an installed package brings."""

    name: str
    guarantee: Literal["best_effort", "at_least_once"]
    uses: str
    """Name of its entry point."""
    config: Mapping[str, object]
    type: Literal["custom"] = "custom"


SinkPlan = (
    HttpSinkPlan
    | SseSinkPlan
    | SqliteSinkPlan
    | StdoutSinkPlan
    | KafkaSinkPlan
    | FileSinkPlan
    | PostgresSinkPlan
    | CustomSinkPlan
)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A feature of the language that this version validates and explains but does not run yet."""

    feature: str
    place: Place


@dataclass(frozen=True, slots=True)
class EstimatePart:
    """One term of an estimate: what needs it, how much, and how that was reckoned."""

    of: Literal["memory", "disk"]
    what: str
    megabytes: float
    formula: str


@dataclass(frozen=True, slots=True)
class Estimates:
    """What the pipeline will need: the sums of `parts`, and what was assumed."""

    memory_mb: float
    disk_mb: float
    parts: tuple[EstimatePart, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything `run` needs, and everything `plan` shows."""

    name: str
    config_hash: str
    file: str
    storage: StoragePlan
    delivery: DeliveryPlan
    retention_ms: int | None
    clean_interval_ms: int
    server: ServerPlan
    sources: tuple[SourcePlan, ...]
    topics: tuple[TopicPlan, ...]
    joins: tuple[JoinPlan, ...]
    windows: tuple[WindowPlan, ...]
    sinks: tuple[SinkPlan, ...]
    estimates: Estimates
    unsupported: tuple[Unsupported, ...] = field(default=())
    replication: ReplicationPlan | None = None

    def results_of(self, sink: str) -> tuple[str, ...]:
        """Whose results a sink takes: joins, windows, and late messages under their own name."""
        views: tuple[JoinPlan | WindowPlan, ...] = (*self.joins, *self.windows)
        late = (window.late_name for window in self.windows if window.late_sink == sink)
        return (*(view.name for view in views if sink in view.sinks), *late)


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a data directory tells about the pipeline that ran on it last."""

    text: str
    """How people call it."""
    topics: tuple[str, ...]
    timed_topics: frozenset[str]
    """Topics, in lower case, whose tables have an index on the timestamp."""
    sources: tuple[str, ...]
    """Api sources that have a diff state."""
    joins: Mapping[str, str]
    """Joins and windows with stored state, and the `definition` it was made with."""
    sinks: tuple[str, ...] | None
    """Sinks with a cursor; None when nothing was delivered yet."""
    filled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The topics that each api source has a diff state for, as far as that is known."""
    with_results: frozenset[str] = frozenset()
    """Joins that have results."""
    is_new: bool = False
    """There is nothing yet."""
    notes: tuple[str, ...] = ()
