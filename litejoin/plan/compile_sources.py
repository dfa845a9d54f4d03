"""Sources of the document -> source plans.

Called by `compile`. A new kind of source: a node in `nodes`, a function and a line in `COMPILERS`.
"""

from collections.abc import Callable

from litejoin.plan.compile_api import compile_api
from litejoin.plan.nodes import (
    HttpSourcePlan,
    KafkaSecurity,
    KafkaSourcePlan,
    Secret,
    SourcePlan,
    WebhookPlan,
)
from litejoin.plan.redact import shown_url
from litejoin.plan.section import Section


def compile_source(source: Section) -> SourcePlan:
    """The plan of one source."""
    return COMPILERS[source.text("type")](source)


def url_as_written(section: Section, key: str) -> str:
    """A URL that is safe to show: `${VAR}` not expanded, secrets written in clear masked."""
    return shown_url(section.document.shown(section.at(key)) or "")


def headers_of(section: Section) -> dict[str, Secret]:
    """The `headers` of a request, each value secret."""
    return {name: Secret(value) for name, value in section.section("headers").value.items()}


def _http(source: Section) -> HttpSourcePlan:
    config = source.section("config")
    return HttpSourcePlan(
        name=source.text("name"),
        topics=source.texts("topics"),
        addr=config.address("addr"),
        webhook=_webhook(config.section("webhook")) if config.has("webhook") else None,
    )


def _webhook(webhook: Section) -> WebhookPlan:
    secrets = tuple(Secret(secret) for secret in webhook.texts("secret"))
    return WebhookPlan(webhook.texts("key_path"), secrets)


def _kafka(source: Section) -> KafkaSourcePlan:
    config = source.section("config")
    renamed = config.section("topic_map").value
    names = source.texts("topics")
    return KafkaSourcePlan(
        name=source.text("name"),
        topics=tuple(str(renamed.get(topic, topic)) for topic in names),
        kafka_topics=names,
        brokers=config.text("brokers"),
        group_id=config.text("group_id"),
        key_path=config.texts("key_path"),
        meta=config.maybe_text("meta"),
        value_format=config.value["value_format"],
        auto_offset_reset=config.value["auto_offset_reset"],
        on_bad_message=config.value["on_bad_message"],
        dlq_topic=config.maybe_text("dlq_topic"),
        on_lost_offset=config.value["on_lost_offset"],
        security=kafka_security(config),
        options=kafka_options(config),
    )


def kafka_security(config: Section) -> KafkaSecurity | None:
    """The `security` of a Kafka source or sink."""
    if not config.has("security"):
        return None
    security = config.section("security")
    return KafkaSecurity(
        security.value["protocol"],
        security.text("mechanism"),
        security.text("username"),
        Secret(security.text("password")),
        security.maybe_path("ca_file"),
        security.maybe_path("cert_file"),
        security.maybe_path("key_file"),
    )


def kafka_options(config: Section) -> dict[str, Secret]:
    """More settings of the client; any of them may be a secret, so none is ever shown."""
    return {
        name: Secret(str(value).lower() if isinstance(value, bool) else value)
        for name, value in config.section("options").value.items()
    }


COMPILERS: dict[str, Callable[[Section], SourcePlan]] = {
    "api": compile_api,
    "http": _http,
    "kafka": _kafka,
}
"""By the `type` of a source."""
