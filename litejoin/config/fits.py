"""Tells quickly that a value fits its schema, so that jsonschema is loaded only to say why not.

Importing jsonschema takes about 200 ms and 10 MB, more than everything else `validate` and `run` do
with a sound config. This accepts what jsonschema would accept, for the keywords that `shape` hands
on; a test holds the two equal. It never explains: a misfit goes to `validate`.
"""

import re
from collections.abc import Callable
from typing import Any

from litejoin.config.formats import FORMATS, magnitude


def fits(value: Any, schema: Any) -> bool:
    """True when the value satisfies a schema made by `shape`."""
    if schema is True:
        return True
    return all(_RULES[rule](value, wanted, schema) for rule, wanted in schema.items())


def _type(value: Any, wanted: Any, _: Any) -> bool:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    return any(_IS[kind](value) for kind in kinds)


def _is_integer(value: Any) -> bool:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_whole and not isinstance(value, bool)


_IS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _format(value: Any, wanted: str, _: Any) -> bool:
    if isinstance(value, str):
        try:
            FORMATS[wanted][1](value)
        except ValueError:
            return False
    return True


def _no_more(value: Any, wanted: Any, schema: Any) -> bool:
    if wanted is not False or not isinstance(value, dict):
        return True
    return set(value) <= set(schema.get("properties", ()))


def _properties(value: Any, wanted: Any, _: Any) -> bool:
    if not isinstance(value, dict):
        return True
    return all(fits(value[name], each) for name, each in wanted.items() if name in value)


def _names(value: Any, wanted: Any, _: Any) -> bool:
    return not isinstance(value, dict) or all(
        _pattern(name, wanted["pattern"], None) for name in value
    )


def _items(value: Any, wanted: Any, _: Any) -> bool:
    if not isinstance(value, list):
        return True
    # Fewer schemas than items is how prefixItems works: the rest is free.
    return all(fits(item, each) for item, each in zip(value, wanted, strict=False))


def _required(value: Any, wanted: Any, _: Any) -> bool:
    return not isinstance(value, dict) or all(name in value for name in wanted)


def _dependent(value: Any, wanted: Any, _: Any) -> bool:
    if not isinstance(value, dict):
        return True
    return all(_required(value, names, _) for name, names in wanted.items() if name in value)


def _one_of(value: Any, wanted: Any, _: Any) -> bool:
    return sum(_required(value, option["required"], _) for option in wanted) == 1


def _pattern(value: Any, wanted: str, _: Any) -> bool:
    return not isinstance(value, str) or re.search(wanted, value) is not None


def _unique(value: Any, wanted: Any, _: Any) -> bool:
    if not wanted or not isinstance(value, list):
        return True
    return len({repr(item) for item in value}) == len(value)


def _sized(
    kind: type[str] | type[list[Any]] | type[dict[str, Any]], is_ok: Callable[[int, int], bool]
) -> Any:
    def rule(value: Any, wanted: int, _: Any) -> bool:
        return not isinstance(value, kind) or is_ok(len(value), wanted)

    return rule


def _bounded(is_ok: Callable[[float, float], bool]) -> Any:
    def rule(value: Any, wanted: float, schema: Any) -> bool:
        have = magnitude(value, schema)
        return have is None or is_ok(have, wanted)

    return rule


_RULES: dict[str, Callable[[Any, Any, Any], bool]] = {
    "type": _type,
    "enum": lambda value, wanted, _: value in wanted,
    "const": lambda value, wanted, _: bool(value == wanted),
    "format": _format,
    "pattern": _pattern,
    "properties": _properties,
    "additionalProperties": _no_more,
    "propertyNames": _names,
    "prefixItems": _items,
    "required": _required,
    "dependentRequired": _dependent,
    "oneOf": _one_of,
    "uniqueItems": _unique,
    "minLength": _sized(str, lambda have, least: have >= least),
    "maxLength": _sized(str, lambda have, most: have <= most),
    "minItems": _sized(list, lambda have, least: have >= least),
    "maxItems": _sized(list, lambda have, most: have <= most),
    "minProperties": _sized(dict, lambda have, least: have >= least),
    "maxProperties": _sized(dict, lambda have, most: have <= most),
    "minimum": _bounded(lambda have, least: have >= least),
    "maximum": _bounded(lambda have, most: have <= most),
    "exclusiveMinimum": _bounded(lambda have, least: have > least),
}
