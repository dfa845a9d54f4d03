"""A plan made by hand that holds one of everything, for the tests of what is made from plans."""

from pathlib import Path

from litejoin.plan.nodes import (
    Address,
    ApiSourcePlan,
    ArchivePlan,
    CloudPlan,
    CustomSinkPlan,
    DeliveryPlan,
    DlqPlan,
    EstimatePart,
    Estimates,
    HttpSinkPlan,
    HttpSourcePlan,
    IndexPlan,
    JoinPlan,
    KafkaSinkPlan,
    KafkaSourcePlan,
    Place,
    Plan,
    PostgresSinkPlan,
    Reason,
    ReferencePlan,
    ReplicationPlan,
    Secret,
    ServerLimits,
    ServerPlan,
    SqliteSinkPlan,
    SseSinkPlan,
    StdoutSinkPlan,
    StoragePlan,
    Token,
    TopicPlan,
    Unsupported,
    WindowPlan,
)

HEADER_SECRET = "Bearer header-secret"
TOKEN_SECRET = "admin-token"
URL_SECRET = "url-secret"
PASSWORD = "dsn-password"
BUCKET_SECRET = "bucket-secret"

BUCKET = CloudPlan(
    "s3",
    "cold",
    "shop/",
    "",
    "http://minio:9000",
    1 << 30,
    {"secret_access_key": Secret(BUCKET_SECRET)},
)

ARCHIVE = ArchivePlan(60_000, 128 << 20, "zstd", 256 << 20, 604_800_000, BUCKET)

LIMITS = ServerLimits(1, 2, 3, 4, 5, 6, 7, 8, 9)

ORDERS_API = ApiSourcePlan(
    name="orders-api",
    topic="orders",
    url=f"https://api.example.com/orders?limit=100&appid={URL_SECRET}",
    method="GET",
    interval_ms=30_000,
    key_path=("id",),
    response_path="",
    change_detection="diff",
    detect_deletes=False,
    timeout_ms=30_000,
    initial_snapshot=True,
    headers={"Authorization": Secret(HEADER_SECRET)},
    body=None,
    max_consecutive_failures=5,
    ignore_fields=(),
    max_response_bytes=64_000_000,
    pagination="cursor",
    min_pages=1,
    max_pages=5,
    allowed_per_minute=60.0,
    shown_url="https://api.example.com/orders?limit=100&appid=${OWM_KEY}",
)

ORDER_USER = JoinPlan(
    name="order-user",
    query="SELECT 1",
    place=Place(20, 12),
    columns=("order_id", "name"),
    key_column="order_id",
    key_index=0,
    sinks=("hook", "live"),
    emit="changes",
    on_delete="emit",
    json_columns=(),
    strategy="native",
    reasons=(),
    references=(
        ReferencePlan(
            "orders",
            "o",
            "native",
            "by key",
            None,
            "SELECT 1",
            ("SCAN o VIRTUAL TABLE INDEX 2:delta",),
        ),
        ReferencePlan("users", "u", "native", "through orders.$.user_id", "lj:1", None, ()),
    ),
    refresh_sql="SELECT 2",
    refresh_null_sql=None,
    refresh_plan=(
        "SCAN o VIRTUAL TABLE INDEX 1:key",
        "SCAN u VIRTUAL TABLE INDEX 16:index lj:1",
        "USE TEMP B-TREE FOR ORDER BY",
    ),
)

TOP_ORDERS = JoinPlan(
    name="top-orders",
    query="SELECT 1",
    place=Place(30, 12),
    columns=("key",),
    key_column="key",
    key_index=0,
    sinks=("live",),
    emit="changes",
    on_delete="emit",
    json_columns=(),
    strategy="full",
    reasons=(Reason("LIMIT without a key", Place(31, 9), "drop LIMIT"),),
    references=(ReferencePlan("orders", "orders", "full", "re-evaluated", None, None, ()),),
    refresh_sql="SELECT 1",
    refresh_null_sql=None,
    refresh_plan=(),
)


def shop_plan() -> Plan:
    """One of everything; the values mean nothing."""
    return Plan(
        name="shop",
        config_hash="3f9ac2d01b2c",
        file="shop.yaml",
        storage=StoragePlan(
            Path("data"), 8, 4, 1000, 10, "full", 24 << 20, archive=ARCHIVE
        ),
        delivery=DeliveryPlan(
            "at_least_once", DlqPlan(Path("data/dlq.db"), 1, 0, 2.0, 1, 1, 1, 1)
        ),
        retention_ms=86_400_000,
        clean_interval_ms=60_000,
        server=ServerPlan(
            addr=Address("127.0.0.1", 9100, explicit=False),
            tokens=(Token(Secret(TOKEN_SECRET), frozenset({"admin"})),),
            tls_cert_file=None,
            tls_key_file=None,
            cors_origins=(),
            limits=LIMITS,
        ),
        sources=(
            ORDERS_API,
            HttpSourcePlan("push", (), Address("", 8080)),
            KafkaSourcePlan("bus", ("users",), ("users",), "b:9092", "lj"),
        ),
        topics=(
            TopicPlan(
                "orders",
                8,
                86_400_000,
                (IndexPlan("lj:1", "CAST(1 AS TEXT)", True, "$.user_id", ("order-user",)),),
                ("orders-api", "push"),
            ),
            TopicPlan("users", 8, None, (), ("bus", "push")),
        ),
        joins=(ORDER_USER, TOP_ORDERS),
        windows=(
            WindowPlan(
                "per-hour", "sliding", "orders", "SELECT 1", Place(40, 12),
                3_600_000, 60_000, None, 3_600_000, ("live",),
            ),
        ),
        sinks=(
            HttpSinkPlan(
                "hook", "at_least_once", "http://localhost:9000/hook", "POST", 30_000, {}, 8, "http://localhost:9000/hook"
            ),
            SseSinkPlan("live", "at_least_once", Address("127.0.0.1", 9100)),
            SqliteSinkPlan("file", "at_least_once", Path("out.db"), None),
            StdoutSinkPlan("console", "best_effort"),
            KafkaSinkPlan("bus-out", "at_least_once", "b:9092", "joined"),
            PostgresSinkPlan(
                "pg", "at_least_once", Secret(f"postgres://me:{PASSWORD}@db/x"), None
            ),
            CustomSinkPlan("own", "best_effort", "chat", {"password": PASSWORD}),
        ),
        estimates=Estimates(
            48.0,
            2600.0,
            (
                EstimatePart("memory", "process", 40.0, "without data"),
                EstimatePart("memory", "shards", 8.0, "8 shards x 1 MB"),
                EstimatePart("disk", "pushed rows", 2600.0, "1 row x 250 B"),
            ),
            ("10 new keys/s", "250 B a row"),
        ),
        unsupported=(Unsupported("windows", Place(40, 3)),),
        replication=ReplicationPlan(
            "embedded", f"s3://b/p?key={URL_SECRET}", False, "s3://b/p", 1000, True,
            3_600_000, 259_200_000,
        ),
    )  # fmt: skip
