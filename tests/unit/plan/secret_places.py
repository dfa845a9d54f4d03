"""Configs that each hold one secret, for every place of the schema that can hold one.

The places are found by walking the schema, so a field that is marked secret later is tried without
a line here: fields with the mark, user info and parameters of URLs, and free texts filled from the
environment.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from litejoin.config.schema import (
    Schema,
    branches,
    child,
    discriminator,
    marks,
    resolved,
    root_schema,
    types,
)

SECRET = "hunter2-0f9a8b7c"


class SecretConfig(NamedTuple):
    """A config and where its secret is, such as `sources.0.api.auth(basic).password`."""

    pointer: str
    config: dict[str, Any]


BASE = {
    "name": "shop",
    "sources": [
        {"name": "in", "type": "http", "topics": ["orders"], "config": {"addr": "127.0.0.1:8080"}}
    ],
    "joins": [{"name": "j", "query": "SELECT key FROM orders", "sink": "out"}],
    "sinks": [{"name": "out", "type": "stdout"}],
}
FITTING = {"topic": "orders", "name": "it", "sink": "out", "query": "SELECT key FROM orders"}
"""Values of required fields that must fit the rest of the config."""


def secret_configs() -> Iterator[SecretConfig]:
    """One config for each place."""
    for name, schema in root_schema()["properties"].items():
        for pointer, value in _places(resolved(schema)):
            config = dict(BASE)
            if name in ("sources", "sinks", "joins", "windows"):
                value = [*config.get(name, []), *value]
            config[name] = value
            yield SecretConfig(f"{name}.{pointer}".rstrip("."), config)


def _places(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Where below a resolved schema a secret can be, each with a value that is valid around it."""
    if marks(schema).get("secret") and "string" in types(schema):
        yield "", SECRET
    elif schema.get("format") == "url":
        yield "(user info)", f"https://me:{SECRET}@h/x"
        yield "(parameter)", f"https://h/x?api_key={SECRET}&page=1"
    if "array" in types(schema):
        for pointer, value in _places(resolved(schema.get("items", {}))):
            yield f"0.{pointer}", [value]
    if "object" in types(schema):
        yield from _places_in_object(schema)


def _places_in_object(schema: Schema) -> Iterator[tuple[str, Any]]:
    key = discriminator(schema)
    if key is not None:
        for name, branch in branches(schema, key).items():
            for pointer, value in _places_in_object(branch):
                yield f"({name}).{pointer}", value
        return
    for name in schema.get("properties", {}):
        below = child(schema, name)
        assert below is not None
        for pointer, value in _places(below):
            yield f"{name}.{pointer}", {**minimal(schema), name: value}
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        for pointer, value in _places(resolved(more)):
            yield f"X-Any.{pointer}", {**minimal(schema), "X-Any": value}


def minimal(schema: Schema, name: str = "") -> Any:
    """The smallest value that fits a resolved schema."""
    if "const" in schema:
        return schema["const"]
    if name in FITTING:
        return FITTING[name]
    if "default" in schema:
        return schema["default"]
    if schema.get("examples"):
        return next((e for e in schema["examples"] if "${" not in str(e)), "plain-text-12")
    if "enum" in schema:
        return schema["enum"][0]
    if "object" in types(schema):
        key = discriminator(schema)
        if key is not None:
            return minimal(next(iter(branches(schema, key).values())))
        needed = [*schema.get("required", ())]
        needed += next((option["required"] for option in schema.get("oneOf", ())), [])
        return {each: minimal(child(schema, each) or {}, each) for each in needed}
    if "array" in types(schema):
        return [minimal(resolved(schema.get("items", {})))] * schema.get("minItems", 0)
    if schema.get("format") == "url":
        return "https://h/x"
    return {"integer": 1, "number": 1.0, "boolean": True}.get(types(schema)[0], "plain-text-12")
