"""Makes a value usable: takes out what does not fit the schema, fills in what was left out.

After `repair` and `fill` the value satisfies the schema, so that later stages can look at the sound
parts of a config with mistakes (SQL errors are worth telling although an interval is misspelt).
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from litejoin.config.schema import Schema, branches, child, discriminator, resolved
from litejoin.config.shape import Path


class _Removed:
    """Marks a list item that was taken out; the list is closed up at the end."""


_REMOVED = _Removed()

_STAND_INS: dict[Path, str | None] = {
    ("sources", "api", "interval"): "8760h",
    ("sources", "api", "key_path"): "id",
    ("sources", "config", "brokers"): "placeholder:9092",
    ("sources", "config", "webhook", "key_path"): "id",
    ("sinks", "config", "brokers"): "placeholder:9092",
    ("joins", "name"): "",
    ("joins", "sink"): None,
    ("joins", "sinks"): None,
    ("windows", "name"): "",
    ("windows", "sink"): None,
    ("windows", "sinks"): None,
    ("windows", "size"): "8760h",
    ("windows", "slide"): "1ms",
    ("windows", "gap"): "1s",
}
"""Required keys without which the rest can be judged, by section and path in the item: values that
no check finds fault with; None for no value, "" for a name that no query can write."""


def repair(
    value: dict[str, Any], bad: Iterable[Path], schemas: dict[Path, Schema]
) -> tuple[dict[str, Any], list[Path]]:
    """The value without bad parts, and the list items that were taken out by their paths.

    A part that is required takes what it is in with it, unless something can stand for it; what the
    whole config requires is left empty. Changes `value` in place.
    """
    removed: set[Path] = set()
    for path in bad:
        _take_out(value, path, schemas, removed)
    value.setdefault("sources", [])
    closed: dict[str, Any] = _closed_up(value)
    return closed, sorted(removed, key=str)


def _take_out(
    value: dict[str, Any], path: Path, schemas: dict[Path, Schema], removed: set[Path]
) -> None:
    while path:
        above, key = _at(value, path[:-1]), path[-1]
        if isinstance(above, list) and isinstance(key, int):
            above[key] = _REMOVED
            removed.add(path)
            return
        if not isinstance(above, dict):
            return  # what it was in is gone already
        if path[:-1] and _is_required(schemas.get(path[:-1], {}), above, str(key)):
            if (path[0], *path[2:]) in _STAND_INS:
                _stand_in(above, path)
                return
            path = path[:-1]
            continue
        above.pop(str(key), None)
        return


def _stand_in(above: dict[str, Any], path: Path) -> None:
    """Keep the item of a path, without what was wrong there."""
    value = _STAND_INS[(path[0], *path[2:])]
    above.pop(str(path[-1]), None)
    if value is not None:
        above[str(path[-1])] = value or f"{path[0]}[{path[1]}]"


def _at(value: Any, path: Path) -> Any:
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _is_required(schema: Schema, value: dict[str, Any], key: str) -> bool:
    if key in schema.get("required", ()):
        return True
    for option in schema.get("oneOf", ()):
        if key in option.get("required", ()):
            return True
    return any(
        key in needed and name in value
        for name, needed in schema.get("dependentRequired", {}).items()
    )


def _closed_up(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _closed_up(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_closed_up(each) for each in value if each is not _REMOVED]
    return value


def fill(value: Any, schema: Schema) -> Any:
    """The value with the schema's defaults where keys were left out. Changes it in place."""
    schema = resolved(schema)
    if isinstance(value, list):
        for at, item in enumerate(value):
            value[at] = fill(item, schema.get("items", {}))
    if not isinstance(value, dict):
        return value
    key = discriminator(schema)
    if key is not None:
        schema = branches(schema, key)[value[key]]
    for name, known in schema.get("properties", {}).items():
        known = resolved(known)
        if name not in value and "default" in known:
            value[name] = deepcopy(known["default"])
    for name in value:
        value[name] = fill(value[name], child(schema, name) or {})
    return value
