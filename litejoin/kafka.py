"""The Kafka client library, imported when a config names Kafka, and its settings.

Shared by the kafka source and the kafka sink; makes no connection.
"""

import logging
from collections.abc import Mapping
from types import ModuleType

from litejoin.clock import Clock, SystemClock
from litejoin.errors import ConfigError
from litejoin.plain_files import check_plain
from litejoin.plan.nodes import KafkaSecurity, KafkaSourcePlan, Secret

client_log = logging.getLogger("litejoin.kafka")
"""What librdkafka itself has to say; connections that fail are told by `BrokerErrors`."""

SAID_AGAIN_MS = 30_000


class BrokerErrors:
    """Logs what the client says of its connections, each kind at most every 30 s: it tries again
    many times a second, and says so every time.
    """

    def __init__(self, who: str, clock: Clock | None = None) -> None:
        self._who = who
        self._clock = clock or SystemClock()
        self._said_ms: dict[str, int] = {}
        self.heard = 0

    def hear(self, name: str, reason: str) -> str:
        """The error as one line, logged when it is news. Called on any thread of the client."""
        text = f"{name}: {reason}"
        now_ms, said_ms = self._clock.monotonic_ms(), self._said_ms.get(name)
        self.heard += 1
        if said_ms is None or now_ms - said_ms >= SAID_AGAIN_MS:
            self._said_ms[name] = now_ms
            client_log.warning("%s: %s", self._who, text)
        return text


def load_client() -> ModuleType:
    """The confluent_kafka module. Raises ConfigError when the extra is not installed."""
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError as error:
        raise ConfigError(
            f"kafka needs the package confluent-kafka, which cannot be imported: {error}",
            hint="pip install 'litejoin[kafka]'",
        ) from None
    return confluent_kafka


def redacted(text: str, options: Mapping[str, object]) -> str:
    """What the client says of settings, without the values of secret ones."""
    for value in options.values():
        if isinstance(value, Secret) and value:
            text = text.replace(f'"{value}"', '"***"')
    return text


def library_file() -> str:
    """A loaded file that is linked with librdkafka, for the native modules. Raises ConfigError."""
    load_client()
    from confluent_kafka import cimpl

    return str(cimpl.__file__)


def connection_options(brokers: str, security: KafkaSecurity | None) -> dict[str, object]:
    """What consumers and producers share."""
    options: dict[str, object] = {
        "bootstrap.servers": brokers,
        "client.id": "litejoin",
        "reconnect.backoff.ms": 250,
        "reconnect.backoff.max.ms": 5_000,
        "log_level": 2,
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
    try:
        check_plain(*files.values())
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None
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
        # Bounds what the client library holds: each message costs it some hundred bytes beside its
        # own, and its defaults (64 MB, 100,000 messages a partition) are most of our RAM.
        "queued.max.messages.kbytes": 4_096,
        "queued.min.messages": 5_000,
        # A full buffer postpones the next fetch by so much; the default of a second is most of the
        # time of a backlog.
        "fetch.queue.backoff.ms": 10,
        # Of one partition in one answer; a message that is larger comes all the same.
        "fetch.message.max.bytes": 524_288,
        # Topics of the brokers' own, which a pattern would find.
        "topic.blacklist": "^__",
        **plan.options,
    }
