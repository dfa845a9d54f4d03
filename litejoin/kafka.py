"""The Kafka client library, imported when a config names Kafka, and its settings.

Shared by the kafka source and the kafka sink; makes no connection.
"""

import logging
from types import ModuleType

from litejoin.errors import ConfigError
from litejoin.plan.nodes import KafkaSecurity, KafkaSourcePlan

client_log = logging.getLogger("litejoin.kafka")
"""What librdkafka itself has to say."""


def load_client() -> ModuleType:
    """The confluent_kafka module. Raises ConfigError when the extra is not installed."""
    try:
        import confluent_kafka
    except ImportError as error:
        raise ConfigError(
            f"kafka needs the package confluent-kafka, which cannot be imported: {error}",
            hint="pip install 'litejoin[kafka]'",
        ) from None
    return confluent_kafka


def connection_options(brokers: str, security: KafkaSecurity | None) -> dict[str, object]:
    """What consumers and producers share."""
    options: dict[str, object] = {
        "bootstrap.servers": brokers,
        "client.id": "litejoin",
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 5_000,
        "log_level": 4,
    }
    if security is None:
        return options
    options["security.protocol"] = security.protocol
    if security.protocol.startswith("sasl"):
        options["sasl.mechanism"] = security.mechanism
        options["sasl.username"] = security.username
        options["sasl.password"] = security.password
    files = {
        "ssl.ca.location": security.ca_file,
        "ssl.certificate.location": security.cert_file,
        "ssl.key.location": security.key_file,
    }
    return options | {name: str(path) for name, path in files.items() if path is not None}


def consumer_options(plan: KafkaSourcePlan) -> dict[str, object]:
    """Offsets are ours: nothing is committed or reset behind our back."""
    return {
        **connection_options(plan.brokers, plan.security),
        "group.id": plan.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
        # Bounds what the client library holds; its default of 64 MB a consumer is most of our RAM.
        "queued.max.messages.kbytes": 8_192,
        "queued.min.messages": 10_000,
        "fetch.message.max.bytes": 1_048_576,
        **plan.options,
    }
