"""The JSON Schema of the config language as data: references resolved, branches chosen.

The schema file is the only place that knows fields, types, defaults and descriptions; everything
that walks a config walks it along the schema with the functions here. `x-litejoin` keys:

    since     version that brought a field
    run       false: `run` refuses the feature in this version
    off       values (of keys, or of the field itself) with which such a feature is off
    feature   what messages call it
    secret    true: the value is never shown
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

Schema = Mapping[str, Any]


CONFIG_FILE = "litejoin.schema.json"
PLAN_FILE = "plan.schema.json"
"""Describes the output of `plan --format json`; `schema --plan` publishes it."""
PLAN_DIFF_FILE = "plan-diff.schema.json"
"""The same for `plan --diff` and `schema --plan-diff`."""


def schema_text(file: str = CONFIG_FILE) -> str:
    """A schema file as it is shipped. Raises OSError when the installation is broken."""
    package = Path(__file__).parents[1]
    shipped = package / "schemas" / file
    # In a source tree schemas/ stands beside the package, not in it.
    path = shipped if shipped.exists() else package.parent / "schemas" / file
    return path.read_text("utf-8")


@cache
def root_schema() -> Schema:
    """The parsed schema. Shared: not to be changed."""
    return cast(Schema, json.loads(schema_text()))


def resolved(schema: Schema) -> Schema:
    """The schema with its `$ref` replaced by what it names; keys beside the `$ref` win."""
    while "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**root_schema()["$defs"][name], **beside}
    return schema


def types(schema: Schema) -> tuple[str, ...]:
    """The JSON types a resolved schema allows; empty: all."""
    kinds = schema.get("type", ())
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def marks(schema: Schema) -> Mapping[str, Any]:
    """The `x-litejoin` marks of a resolved schema."""
    return cast(Mapping[str, Any], schema.get("x-litejoin", {}))


def discriminator(schema: Schema) -> str | None:
    """The key that decides between the branches of a resolved schema (`type`, `strategy`)."""
    for key in ("type", "strategy"):
        if branches(schema, key):
            return key
    return None


def branches(schema: Schema, key: str) -> dict[str, Schema]:
    """The branches of a resolved schema by their constant of `key`; empty when it has none."""
    found: dict[str, Schema] = {}
    for branch in schema.get("oneOf", ()):
        body = resolved(branch)
        constant = body.get("properties", {}).get(key, {}).get("const")
        if constant is None:
            return {}
        found[constant] = body
    return found


def child(schema: Schema, name: str) -> Schema | None:
    """The resolved schema of a key of an object; None when the key is unknown."""
    properties = schema.get("properties", {})
    if name in properties:
        return resolved(properties[name])
    more = schema.get("additionalProperties", True)
    if more is False:
        return None
    return resolved(more) if isinstance(more, dict) else {}
