"""Gives every node the type that the schema expects, and the schema the branches it took.

YAML alone cannot tell whether `no`, `8` or `1.0` is a text. So a plain scalar is read as what its
place in the schema takes. While walking, `oneOf` is resolved by the `type` of each mapping: what
comes out is a value and a schema of its own without `oneOf` or `$ref`, so that the validator's
errors are about the right branch. Reports nothing but an unknown or missing `type`.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from litejoin.config.diagnostics import Diagnostics, pointer_of
from litejoin.config.nodes import Mapping, Node, Scalar, Sequence
from litejoin.config.schema import Schema, branches, child, discriminator, marks, resolved, types
from litejoin.config.text import listed, shown, suggestion
from litejoin.plan.nodes import Secret

Path = tuple[str | int, ...]

_NOTHING = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"))
_FALSE = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"))
"""Where a boolean is expected, YAML 1.1's words count, too: the original reads them so."""
_INTEGER = re.compile(r"[-+]?[0-9]{1,100}|0x[0-9a-fA-F]{1,32}|0o[0-7]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,100}|[0-9]{1,100}(\.[0-9]{0,100})?)([eE][-+]?[0-9]{1,3})?")

_OBJECT_RULES = (
    "required", "minProperties", "maxProperties", "propertyNames", "dependentRequired", "oneOf",
)  # fmt: skip
"""A `oneOf` that is left after the branch was chosen says which keys are required."""
_ARRAY_RULES = ("minItems", "maxItems", "uniqueItems")
_SCALAR_RULES = (
    "type", "enum", "const", "format", "pattern", "minLength", "maxLength",
    "minimum", "maximum", "exclusiveMinimum",
)  # fmt: skip

_SCALAR_TYPES = frozenset(("string", "integer", "number", "boolean", "null"))

_STAND_INS = {
    "go-duration": "1s",
    "go-duration-positive": "1s",
    "size": "1MB",
    "address": "127.0.0.1:9",
    "url": "http://placeholder.invalid",
    "replica-url": "file:///placeholder",
    "gjson": "placeholder",
    "brokers": "placeholder:9092",
    "status": "5xx",
    "since": "1h",
    "origin": "https://placeholder.invalid",
    "header-name": "X-Placeholder",
}
"""Values for what an unset variable would have said, so that the rest can be checked."""


@dataclass(slots=True)
class Shape:
    """The outcome: `value` and `schema` fit together; `schemas` has the branch of every path."""

    value: Any = None
    schema: Any = None
    schemas: dict[Path, Schema] = field(default_factory=dict)
    nodes: dict[Path, Node] = field(default_factory=dict)
    broken: list[Path] = field(default_factory=list)
    """Parts that nothing can be said about: mappings of no known type, unset variables."""


def shape(root: Node, schema: Schema, found: Diagnostics) -> Shape:
    """Walk `root` along `schema`."""
    outcome = Shape()
    outcome.value, outcome.schema = _Walk(outcome, found).walk(root, resolved(schema), ())
    return outcome


class _Walk:
    def __init__(self, outcome: Shape, found: Diagnostics) -> None:
        self.outcome = outcome
        self.found = found

    def walk(self, node: Node, schema: Schema, path: Path) -> tuple[Any, Any]:
        """The value of a node and the schema it must fit."""
        self.outcome.schemas[path] = schema
        self.outcome.nodes[path] = node
        if isinstance(node, Mapping):
            return self._mapping(node, schema, path)
        if isinstance(node, Sequence):
            return self._sequence(node, schema, path)
        assert isinstance(node, Scalar)
        if node.unknown:
            if types(schema) and not _SCALAR_TYPES & set(types(schema)):
                self.outcome.broken.append(path)
            return stand_in(schema, node.text), True
        value = _scalar(node, types(schema))
        if isinstance(value, str) and (node.secrets or marks(schema).get("secret")):
            value = Secret(value)
        return value, {rule: schema[rule] for rule in _SCALAR_RULES if rule in schema}

    def _mapping(self, node: Mapping, schema: Schema, path: Path) -> tuple[Any, Any]:
        if types(schema) and "object" not in types(schema):
            return {}, {"type": schema["type"]}
        constant: dict[str, str] = {}
        key = discriminator(schema)
        if key is not None:
            name, branch = self._branch(node, schema, key, path)
            if branch is None:
                self.outcome.broken.append(path)
                return {}, True
            constant, schema = {key: name}, branch
            self.outcome.schemas[path] = schema
        value: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        for name, entry in node.entries.items():
            known = child(schema, name)
            if known is None:
                value[name] = None
            elif not is_nothing(entry.value) or "null" in types(known):
                value[name], properties[name] = self.walk(entry.value, known, (*path, name))
        value.update(constant)
        rules = {rule: schema[rule] for rule in _OBJECT_RULES if rule in schema}
        if "propertyNames" in rules:
            rules["propertyNames"] = resolved(rules["propertyNames"])
        more = schema.get("additionalProperties", True) is not False
        return value, {
            "type": "object", "properties": properties, "additionalProperties": more, **rules,
        }  # fmt: skip

    def _sequence(self, node: Sequence, schema: Schema, path: Path) -> tuple[Any, Any]:
        if types(schema) and "array" not in types(schema):
            return [], {"type": schema["type"]}
        item = resolved(schema.get("items", {}))
        walked = [self.walk(each, item, (*path, at)) for at, each in enumerate(node.items)]
        rules = {rule: schema[rule] for rule in _ARRAY_RULES if rule in schema}
        value = [value for value, _ in walked]
        return value, {"type": "array", "prefixItems": [each for _, each in walked], **rules}

    def _branch(
        self, node: Mapping, schema: Schema, key: str, path: Path
    ) -> tuple[str, Schema | None]:
        """The branch that a mapping takes by its `type`, or that it most probably means."""
        options = branches(schema, key)
        entry = node.entries.get(key)
        written = entry.value if entry else None
        text = written.text if isinstance(written, Scalar) else ""
        if text in options:
            return text, options[text]
        guess = suggestion(text, options) if text else None
        if isinstance(written, Scalar) and written.unknown:
            pass  # reported where it was expanded
        elif written is None or is_nothing(written):
            message = f'missing key "{key}"{_inside(path)}'
            hint = f"one of {listed(options)}"
            self.found.node(node, "LJ105", message, hint=hint, pointer=pointer_of(path))
        else:
            near = f' (did you mean "{guess}"?)' if guess else ""
            message = f'unknown {key} "{shown(text)}"{_inside(path)}{near}'
            if not isinstance(written, Scalar):
                message = f"{key}{_inside(path)} must be a text"
            hint = f"{key} is one of {listed(options)}"
            where = pointer_of((*path, key))
            self.found.node(written, "LJ106", message, hint=hint, pointer=where)
        name = guess or _by_keys(node, options)
        return name or "", options.get(name or "")


def _by_keys(node: Mapping, options: dict[str, Schema]) -> str | None:
    """The branch that knows more of the mapping's keys than every other one."""
    counts = {
        name: len(node.entries.keys() & branch["properties"].keys())
        for name, branch in options.items()
    }
    best = max(counts.values(), default=0)
    names = [name for name, count in counts.items() if count == best]
    return names[0] if len(names) == 1 else None


def _inside(path: Path) -> str:
    return f" in {human(path)}" if path else ""


def human(path: Path) -> str:
    """A path as people write it: `sources[0].api`."""
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{shown(str(part))}" for part in path
    )
    return text.removeprefix(".")


def is_nothing(node: Node) -> bool:
    """True for a key without a value (`key:`, `~`, `null`): as if the key was not there."""
    return isinstance(node, Scalar) and node.plain and node.text in _NOTHING


def _scalar(node: Scalar, kinds: tuple[str, ...]) -> Any:
    """The value of a scalar in a place that takes `kinds`; a misfit keeps its natural type."""
    # A quoted "${PORT}" is a number where one is expected: quotes are how variables are written.
    is_open = node.plain or bool(node.pieces)
    text = node.text
    if is_open and "boolean" in kinds and text in _TRUE | _FALSE:
        return text in _TRUE
    if is_open and ("integer" in kinds or "number" in kinds) and "string" not in kinds:
        number = _number(text)
        if number is not None:
            return number
    if "string" in kinds:
        return text if not is_nothing(node) else None
    return natural(node)


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def natural(node: Node) -> Any:
    """The value of a node by YAML 1.2's core rules, for places where anything is allowed."""
    if isinstance(node, Mapping):
        return {name: natural(entry.value) for name, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [natural(item) for item in node.items]
    assert isinstance(node, Scalar)
    if not node.plain:
        return Secret(node.text) if node.secrets else node.text
    if node.text in _NOTHING:
        return None
    if node.text.lower() in ("true", "false"):
        return node.text.lower() == "true"
    number = _number(node.text)
    if number is not None:
        return number
    return Secret(node.text) if node.secrets else node.text


def stand_in(schema: Schema, text: str) -> Any:
    """A harmless value for a scalar that could not be expanded."""
    kinds = types(schema)
    is_free = not {"format", "enum", "const"} & schema.keys()
    if is_free and ("string" in kinds or not kinds):
        return text
    if "default" in schema:
        return schema["default"]
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [""])[0])
    if schema.get("format") in _STAND_INS:
        return _STAND_INS[schema["format"]]
    if "string" in kinds:
        return text
    if "integer" in kinds or "number" in kinds:
        return schema.get("minimum", 1)
    return {"boolean": False, "array": [], "object": {}}.get(kinds[0])
