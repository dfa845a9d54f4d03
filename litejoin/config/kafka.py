"""Checks of Kafka sources and sinks that need more than their schema. Called by `semantic`."""

import re
from typing import Any

from litejoin.config.diagnostics import Diagnostics, pointer_of
from litejoin.config.document import Document
from litejoin.config.effects import find_idle
from litejoin.config.schema import root_schema
from litejoin.config.text import shown, suggestion

OWN = frozenset(
    "bootstrap.servers group.id enable.auto.commit enable.auto.offset.store auto.offset.reset "
    "enable.idempotence group.protocol".split()
)
"""Settings of librdkafka that the guarantees rest on, or that have a key of their own."""

ALLOWED = {
    "acks": ("all", "-1"),
    "request.required.acks": ("all", "-1"),
    "partition.assignment.strategy": ("range", "roundrobin", "range,roundrobin"),
}
"""Settings of which only some values keep them."""


def check_kafka(document: Document, found: Diagnostics) -> None:
    """Add a finding for everything that does not go together."""
    for section in ("sources", "sinks"):
        for at, item in enumerate(document.value[section]):
            if item["type"] == "kafka":
                _check_options(document, (section, at), item["config"], found)
                _check_unused(document, f"/{section}/{at}/config", item["config"], found)
                if section == "sources":
                    _check_names(document, at, item, found)


def is_topic(name: str) -> bool:
    """Whether a Kafka topic's name can be that of a topic here."""
    return re.match(root_schema()["$defs"]["topic"]["pattern"], name) is not None


def _check_options(
    document: Document, place: tuple[str, int], config: dict[str, Any], found: Diagnostics
) -> None:
    for name, value in config.get("options", {}).items():
        told = f'`options` cannot change "{shown(name)}"'
        if name in ALLOWED:
            if str(value) in ALLOWED[name]:
                continue
            told = f'"{name}" can be {" or ".join(ALLOWED[name])} only'
        elif name not in OWN:
            continue
        pointer = pointer_of((*place, "config", "options", name))
        hint = "what is promised about order and loss rests on it, or it has a key of its own"
        found.add(document.finding("LJ232", pointer, told, hint=hint))


def _check_unused(
    document: Document, pointer: str, config: dict[str, Any], found: Diagnostics
) -> None:
    """Keys that would be passed over in silence: a password, without the protocol that asks it."""
    protocol = config.get("security", {}).get("protocol", "")
    is_kept = config.get("on_bad_message") == "dlq"
    unused = [] if is_kept else [("dlq_topic", "on_bad_message: dlq")]
    if "sasl" not in protocol:
        needed = "the protocol sasl_ssl or sasl_plaintext"
        unused += [(f"security/{key}", needed) for key in ("mechanism", "username", "password")]
    if "ssl" not in protocol:
        needed = "the protocol ssl or sasl_ssl"
        unused += [(f"security/{key}", needed) for key in ("ca_file", "cert_file", "key_file")]
    for key, needed in unused:
        if not document.is_unknown(f"{pointer}/{key}"):
            find_idle(document, f"{pointer}/{key}", needed, found)


def _check_names(document: Document, at: int, source: dict[str, Any], found: Diagnostics) -> None:
    renamed = source["config"].get("topic_map", {})
    for index, name in enumerate(source["topics"]):
        pointer = f"/sources/{at}/topics/{index}"
        message = _fault(name, name in renamed)
        if message:
            hint = f"topic_map: {{'{name}': orders}} says where its messages go"
            found.add(document.finding("LJ230", pointer, message, hint=hint))
    for name in renamed:
        if name not in source["topics"]:
            near = suggestion(name, source["topics"])
            told = f' (did you mean "{near}"?)' if near else ""
            message = f'topic_map names "{shown(name)}", which is not in topics{told}'
            pointer = pointer_of(("sources", at, "config", "topic_map", name))
            found.add(document.finding("LJ231", pointer, message))


def _fault(name: str, is_mapped: bool) -> str:
    if name.startswith("^"):
        try:
            re.compile(name)
        except re.error as error:
            return f'the pattern "{shown(name)}" is no regular expression: {error}'
        return "" if is_mapped else f'the pattern "{shown(name)}" needs a topic here'
    if is_mapped or is_topic(name):
        return ""
    return f'the Kafka topic "{shown(name)}" cannot be the name of a topic here'
