"""Configs for tests: a small builder, and substitution in files that must otherwise stay as they
are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.harness.ports import free_port

CONFORMANCE = Path(__file__).resolve().parents[1] / "configs" / "conformance"


def substitute(text: str, replacements: Mapping[str, str]) -> str:
    """Replace literal texts; each must occur, so that a changed file cannot make a test vacuous."""
    for old, new in replacements.items():
        if old not in text:
            raise AssertionError(f"{old!r} does not occur in the config")
        text = text.replace(old, new)
    return text


class Listener:
    """A loopback address for a config, and the URLs a client of it uses."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.addr = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.addr}"
        self.health = f"{self.url}/health"


def push_config(
    listener: Listener,
    joins: Mapping[str, str | Mapping[str, Any]],
    *,
    topics: Sequence[str] = (),
    sinks: Sequence[Mapping[str, Any]] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """A config with one HTTP source and an SSE sink `out`, both on `listener`.

    `joins` maps a name to its query, or to a mapping of join fields; a join without `sink(s)` goes
    to every sink. `sections` are other top-level sections (storage, delivery, server...), as they
    are.
    """
    all_sinks = list(sinks) if sinks is not None else [sse_sink(listener)]
    names = [sink["name"] for sink in all_sinks]
    built = []
    for name, given in joins.items():
        join: dict[str, Any] = {
            "name": name,
            **({"query": given} if isinstance(given, str) else given),
        }
        if "sink" not in join and "sinks" not in join:
            join |= {"sink": names[0]} if len(names) == 1 else {"sinks": names}
        built.append(join)
    return {
        **sections,
        "server": {"addr": listener.addr, **sections.get("server", {})},
        "sources": [
            {
                "name": "in",
                "type": "http",
                "topics": list(topics),
                "config": {"addr": listener.addr},
            }
        ],
        "joins": built,
        "sinks": all_sinks,
    }


def poll_config(
    listener: Listener,
    api: Mapping[str, Any],
    joins: Mapping[str, str | Mapping[str, Any]],
    *,
    topic: str = "items",
    **more: Any,
) -> dict[str, Any]:
    """Like push_config, with one API source `feed` of `topic` in place of the HTTP source."""
    config = push_config(listener, joins, **more)
    config["sources"] = [{"name": "feed", "type": "api", "topic": topic, "api": dict(api)}]
    return config


def sse_sink(listener: Listener, name: str = "out") -> dict[str, Any]:
    return {"name": name, "type": "sse", "config": {"addr": listener.addr}}


def http_sink(url: str, name: str = "hook", **config: Any) -> dict[str, Any]:
    return {"name": name, "type": "http", "config": {"url": url, **config}}
