"""`compile_plan`: a checked document -> the frozen plan that `plan` shows and `run` runs.

Called by the commands after `config.load_config`. Reads no file and no clock: two calls with one
document give equal plans. Findings about queries are made here, since only SQLite can judge them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b

from litejoin.config.diagnostics import Diagnostic
from litejoin.config.document import Document
from litejoin.config.semantic import CLOUD_OPTIONS
from litejoin.frozen import dataclass
from litejoin.plan.budget import check_budgets
from litejoin.plan.compile_joins import QueryCompiler
from litejoin.plan.compile_replication import compile_replication
from litejoin.plan.compile_sinks import compile_sink
from litejoin.plan.compile_sources import compile_source
from litejoin.plan.estimate import estimate
from litejoin.plan.nodes import (
    ApiSourcePlan,
    ArchivePlan,
    CloudPlan,
    DeliveryPlan,
    DlqPlan,
    IndexPlan,
    JoinPlan,
    Plan,
    Secret,
    ServerLimits,
    ServerPlan,
    SourcePlan,
    StoragePlan,
    Token,
    TopicPlan,
    WindowPlan,
    relation_of,
)
from litejoin.plan.over_windows import written
from litejoin.plan.query.indexes import IndexRegistry
from litejoin.plan.redact import mask_all, masked_by_value
from litejoin.plan.section import Section

DEFAULT_CLEAN_INTERVAL_MS = 60_000
"""For a config without `retention` but with a topic that has its own."""

ALL_SCOPES = frozenset({"ingest", "subscribe", "admin"})
"""What a token that is written as a text opens."""


def compile_plan(document: Document) -> tuple[Plan | None, list[Diagnostic]]:
    """The plan, and what is wrong or doubtful about the queries, sorted.

    The plan is None when there is an error here or the document is not complete: the findings are
    then those of the sound parts. Takes tens of milliseconds a join.
    """
    root = Section(document)
    sources = [compile_source(section) for section in root.sections("sources")]
    queries = _queries(root, sources)
    joins = [queries.join(section) for section in root.sections("joins")]
    windows = [queries.window(section) for section in root.sections("windows")]
    if document.fed_topics is not None and "" not in document.result_names:
        for section in (*root.sections("joins"), *root.sections("windows")):
            queries.warn_of_unfed(section, document.fed_topics)
    queries.findings += check_budgets(root.sections("sources"), sources)
    findings = document.visible(_masked(finding, document) for finding in queries.findings)
    if not document.complete or any(finding.level == "error" for finding in findings):
        return None, findings
    parts = _Parts(
        tuple(sources),
        tuple(join for join in joins if join is not None),
        tuple(window for window in windows if window is not None),
        tuple(queries.topics),
        queries.registry,
    )
    return _plan(root, parts), findings


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the queries and sources gave, on its way into the plan."""

    sources: tuple[SourcePlan, ...]
    joins: tuple[JoinPlan, ...]
    windows: tuple[WindowPlan, ...]
    topics: tuple[str, ...]
    registry: IndexRegistry


def _queries(root: Section, sources: Iterable[SourcePlan]) -> QueryCompiler:
    """A compiler that knows every topic: those of sources, of windows, and those queries read."""
    names: dict[str, str] = {}
    for source in sources:
        for topic in _topics_of(source):
            names.setdefault(topic.lower(), topic)
    for window in root.sections("windows"):
        names.setdefault(window.text("topic").lower(), window.text("topic"))
    queries = QueryCompiler(list(names.values()), root.sections("windows"))
    queries.take_joins(root.sections("joins"))
    queries.give_up(root.document.result_names)
    for section in (*root.sections("joins"), *root.sections("windows")):
        queries.take_topics(section)
    return queries


def _topics_of(source: SourcePlan) -> tuple[str, ...]:
    return (source.topic,) if isinstance(source, ApiSourcePlan) else source.topics


def _masked(finding: Diagnostic, document: Document) -> Diagnostic:
    """A finding whose texts hold no secret: SQLite quotes the query, which may hold `${VAR}`."""
    texts = finding.message, finding.hint
    message, hint = mask_all(texts, masked_by_value(document.secrets))
    return replace(finding, message=message, hint=hint)


def _plan(root: Section, parts: _Parts) -> Plan:
    document = root.document
    storage, delivery = _storage(root.section("storage")), _delivery(root.section("delivery"))
    retention = root.section("retention")
    topics = _topics(root, parts, storage.shard_count)
    windows = tuple(_read(window, parts) for window in parts.windows)
    return Plan(
        name=document.name,
        config_hash=config_hash(document),
        file=document.file,
        storage=storage,
        delivery=delivery,
        retention_ms=retention.maybe_duration_ms("duration"),
        clean_interval_ms=(
            retention.maybe_duration_ms("clean_interval") or DEFAULT_CLEAN_INTERVAL_MS
        ),
        server=_server(root.section("server")),
        sources=parts.sources,
        topics=topics,
        joins=parts.joins,
        windows=windows,
        sinks=tuple(compile_sink(each, delivery.guarantee) for each in root.sections("sinks")),
        estimates=estimate(
            storage,
            delivery,
            parts.sources,
            topics,
            parts.joins,
            windows,
            duckdb_bytes=_duckdb_bytes(root.section("storage").section("archive")),
        ),
        unsupported=tuple(document.unsupported()),
        replication=compile_replication(root.section("replication")),
    )


def config_hash(document: Document) -> str:
    """12 hex digits over everything the config says, defaults and secrets included.

    Equal for two files that mean the same. Too short to search a secret by.
    """
    effective = {**document.value, "name": document.name}
    text = json.dumps(effective, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=6).hexdigest()


def _storage(storage: Section) -> StoragePlan:
    return StoragePlan(
        data_dir=storage.path("data_dir"),
        shard_count=storage.integer("shard_count"),
        reader_pool_size=storage.integer("reader_pool_size"),
        batch_size=storage.integer("batch_size"),
        flush_interval_ms=storage.duration_ms("flush_interval"),
        synchronous=storage.value["synchronous"],
        row_cache_bytes=storage.size_bytes("row_cache"),
        archive=_archive(storage.section("archive")),
        scrub_interval_ms=storage.duration_ms("scrub_interval"),
        scrub_bytes_per_s=storage.size_bytes("scrub_rate"),
        warn_free_bytes=storage.size_bytes("warn_free_space"),
        min_free_bytes=storage.size_bytes("min_free_space"),
    )


def _archive(archive: Section) -> ArchivePlan | None:
    if not archive.flag("enabled"):
        return None
    return ArchivePlan(
        compaction_interval_ms=archive.duration_ms("compaction_interval"),
        target_file_bytes=archive.size_bytes("target_file_size"),
        compression=archive.value["compression"],
        memory_limit_bytes=archive.size_bytes("duckdb_memory_limit"),
        local_retention_ms=archive.duration_ms("local_retention"),
        cloud=compile_cloud(archive.section("cloud")),
    )


def compile_cloud(cloud: Section) -> CloudPlan | None:
    """The object store of the archive; None when it is off."""
    if not cloud.flag("enabled"):
        return None
    return CloudPlan(
        provider=cloud.value["provider"],
        bucket=cloud.text("bucket"),
        prefix=cloud.text("prefix"),
        region=cloud.text("region"),
        endpoint=cloud.text("endpoint"),
        cache_bytes=cloud.size_bytes("cache_size"),
        options={
            option: Secret(cloud.text(key))
            for key, option in CLOUD_OPTIONS[cloud.value["provider"]].items()
            if cloud.text(key)
        },
    )


def _duckdb_bytes(archive: Section) -> int:
    return archive.size_bytes("duckdb_memory_limit") if archive.flag("enabled") else 0


def _delivery(delivery: Section) -> DeliveryPlan:
    dlq = delivery.section("dlq")
    return DeliveryPlan(
        guarantee=delivery.value["guarantee"],
        dlq=DlqPlan(
            path=dlq.path("path"),
            retry_interval_ms=dlq.duration_ms("retry_interval"),
            max_retries=dlq.integer("max_retries"),
            backoff_multiplier=dlq.number("backoff_multiplier"),
            max_backoff_ms=dlq.duration_ms("max_backoff"),
            ttl_ms=dlq.duration_ms("ttl"),
            max_size_bytes=dlq.integer("max_size_mb") << 20,
            cleanup_interval_ms=dlq.duration_ms("cleanup_interval"),
        ),
    )


def _server(server: Section) -> ServerPlan:
    tls, limits = server.section("tls"), server.section("limits")
    return ServerPlan(
        addr=server.address("addr"),
        tokens=tuple(_token(each) for each in server.section("auth").value.get("tokens", ())),
        tls_cert_file=tls.maybe_path("cert_file"),
        tls_key_file=tls.maybe_path("key_file"),
        cors_origins=server.texts("cors_origins"),
        limits=ServerLimits(
            max_body_bytes=limits.size_bytes("max_body_bytes"),
            max_rows=limits.integer("max_rows"),
            max_depth=limits.integer("max_depth"),
            max_key_bytes=limits.size_bytes("max_key_bytes"),
            max_row_bytes=limits.size_bytes("max_row_bytes"),
            max_connections=limits.integer("max_connections"),
            max_sse_clients=limits.integer("max_sse_clients"),
            header_timeout_ms=limits.duration_ms("header_timeout"),
            idle_timeout_ms=limits.duration_ms("idle_timeout"),
        ),
    )


def _token(token: object) -> Token:
    """A token as a text opens everything; as a mapping, its scopes."""
    if isinstance(token, dict):
        return Token(Secret(token["token"]), frozenset(map(str, token["scopes"])))
    return Token(Secret(token), ALL_SCOPES)


def _topics(root: Section, parts: _Parts, shards: int) -> tuple[TopicPlan, ...]:
    common_ms = root.section("retention").maybe_duration_ms("duration")
    settings = root.section("topics")
    own = {name.lower(): settings.section(name) for name in settings.value}
    plans = []
    for name in parts.topics:
        own_ms = own[name.lower()].maybe_duration_ms("retention") if name.lower() in own else None
        plans.append(
            TopicPlan(
                name=name,
                shards=shards,
                retention_ms=common_ms if own_ms is None else own_ms,
                indexes=_indexes(parts.registry, name),
                fed_by=_fed_by(parts.sources, name),
            )
        )
    return tuple(plans)


def _read(window: WindowPlan, parts: _Parts) -> WindowPlan:
    """A window with the joins that read it and the key maps that they need of its results."""
    readers = tuple(join.name for join in parts.joins if window.name in join.windows)
    indexes = _indexes(parts.registry, relation_of(window.name))
    return replace(
        window,
        read_by=readers,
        indexes=tuple(replace(index, path=written(index.path)) for index in indexes),
    )


def _indexes(registry: IndexRegistry, topic: str) -> tuple[IndexPlan, ...]:
    """The key maps of a topic, numbered as the delta queries name them."""
    return tuple(
        IndexPlan(
            column=f"lj:{number}",
            expression=request.expression,
            is_text=request.is_text,
            path=request.path,
            used_by=tuple(registry.used_by[topic.lower(), f"lj:{number}"]),
            laterals=request.laterals,
        )
        for number, request in enumerate(registry.by_topic.get(topic.lower(), ()), 1)
    )


def _fed_by(sources: Sequence[SourcePlan], topic: str) -> tuple[str, ...]:
    feeding = []
    for source in sources:
        topics = [name.lower() for name in _topics_of(source)]
        if topic.lower() in topics or (source.type == "http" and not topics):
            feeding.append(source.name)
    return tuple(feeding)
