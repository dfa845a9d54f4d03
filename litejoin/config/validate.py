"""Structural validation: jsonschema's errors, told as findings a person can act on.

Called by `check`, only when something does not fit. Takes the shaped value with its schema (no
`$ref`, no branches), adds a finding for everything that does not fit, and says which paths hold no
usable value.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from litejoin.config.diagnostics import Diagnostics, find, pointer_of
from litejoin.config.formats import FORMATS, magnitude
from litejoin.config.nodes import Entry, Mapping, Node, Scalar, Sequence
from litejoin.config.schema import branches, marks, resolved, root_schema, types
from litejoin.config.secrecy import masked_url
from litejoin.config.shape import Path, Shape, human, is_nothing
from litejoin.config.text import listed, shown, suggestion
from litejoin.frozen import dataclass

_TYPE_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}

_NAME_RULE = "a letter or underscore, then letters, digits, _, . and -, at most 128 characters"


@dataclass(frozen=True, slots=True)
class _Fault:
    """What jsonschema found: the keyword, what it demands, the value, and a format's reason."""

    rule: str
    wanted: Any
    value: Any
    cause: str


@dataclass(slots=True)
class _Report:
    """What the tellers share: the tree, where findings go, and the paths that are not usable."""

    root: Node
    shape: Shape
    found: Diagnostics
    bad: list[Path] = field(default_factory=list)

    def node(self, path: Path) -> Node:
        """The node of a path, or the nearest one above it."""
        while path:
            node = self.shape.nodes.get(path) or find(self.root, path)
            if node is not None:
                return node
            path = path[:-1]
        return self.root

    def tell(self, path: Path, code: str, message: str, hint: str = "") -> None:
        """A finding about the value at a path, which is then not usable."""
        node = self.node(path)
        self.found.node(node, code, message, hint=hint, pointer=pointer_of(path))
        self.bad.append(path)


def validate(root: Node, shape: Shape, found: Diagnostics) -> list[Path]:
    """Add findings; return the paths of values (and unknown keys) that must not be used."""
    report = _Report(root, shape, found)
    validator = _Validator(shape.schema, format_checker=_checker())
    for error in validator.iter_errors(shape.value):
        path: Path = tuple(error.absolute_path)
        rule = str(error.validator)
        if "propertyNames" in error.absolute_schema_path:
            rule = "propertyNames"
        fault = _Fault(rule, error.validator_value, error.instance, str(error.cause or ""))
        _TELLERS[rule](report, path, fault)
        if found.is_full:
            break
    return report.bad


def _minimum(_: Any, least: float, value: Any, schema: Any) -> Iterator[ValidationError]:
    have = magnitude(value, schema)
    if have is not None and have < least:
        yield ValidationError("below the minimum")


_Validator = extend(Draft202012Validator, {"minimum": _minimum})  # type: ignore[no-untyped-call]
"""A size that is written as text, such as `64KB`, has a minimum, too."""


@cache
def _checker() -> FormatChecker:
    """The checker of exactly the schema's own formats."""
    made = FormatChecker(formats=())
    for name, (_, check) in FORMATS.items():
        made.checks(name, raises=ValueError)(_text_only(check))
    return made


def _text_only(check: Callable[[str], object]) -> Callable[[object], bool]:
    def checked(value: object) -> bool:
        if isinstance(value, str):
            check(value)
        return True

    return checked


def _subject(path: Path) -> str:
    return human(path) or "the config"


def _quoted(report: _Report, path: Path) -> str:
    """The value as written: a variable's name, never what it holds, and no secret in clear."""
    node = report.node(path)
    if not isinstance(node, Scalar) or marks(report.shape.schemas.get(path, {})).get("secret"):
        return "this value"
    return f'"{shown(masked_url(node.written))}"'


# One teller for each JSON Schema keyword that the schema uses


def _unknown_keys(report: _Report, path: Path, fault: _Fault) -> None:
    node = report.node(path)
    assert isinstance(node, Mapping)
    schema = report.shape.schemas[path]
    known = schema.get("properties", {})
    inside = f" in {human(path)}" if path else ""
    for name, entry in node.entries.items():
        if name in known:
            continue
        other = _other_branch(path, name, report)
        if other:
            code, message = "LJ115", f'"{shown(name)}"{inside} is for {other} only'
            hint = f"this is a {schema['title']}" if "title" in schema else ""
        else:
            guess = None if report.found.is_full else suggestion(name, known)
            near = f' (did you mean "{guess}"?)' if guess else _elsewhere(name, known)
            code, message = "LJ103", f'unknown key "{shown(name)}"{inside}{near}'
            hint = _keys_hint(schema.get("required", ()), known)
        where = (*path, name)
        report.found.node(entry.key, code, message, hint=hint, pointer=pointer_of(where))
        report.bad.append(where)


def _elsewhere(name: str, known: dict[str, Any]) -> str:
    """A key that stands one level too high: `addr` beside `config`."""
    for inner, schema in known.items():
        if name in resolved(schema).get("properties", {}):
            return f' (did you mean "{inner}.{name}"?)'
    return ""


def _keys_hint(required: Iterable[str], known: Iterable[str]) -> str:
    needed = [key for key in required if key != "type"]
    if needed:
        return f"required keys here are {listed(needed, 'and')}"
    keys = list(known)
    return f"the keys here are {listed(keys, 'and')}" if 0 < len(keys) <= 12 else ""


def _other_branch(path: Path, name: str, report: _Report) -> str:
    """The sibling branches that know the key: `type session`."""
    options = _options(path, report)
    knowing = [branch["title"] for branch in options if name in branch["properties"]]
    # Titles are such as "window of type session".
    return listed(title.partition(" of ")[2] for title in knowing[:3])


def _options(path: Path, report: _Report) -> list[Any]:
    if not path:
        return []
    above = report.shape.schemas[path[:-1]]
    if isinstance(path[-1], int):
        schema = resolved(above.get("items", {}))
    else:
        schema = resolved(above.get("properties", {}).get(path[-1], {}))
    found = branches(schema, "type") or branches(schema, "strategy")
    return list(found.values())


def _missing(report: _Report, path: Path, fault: _Fault) -> None:
    node = report.node(path)
    for name in fault.wanted:
        if name not in fault.value:
            _missing_key(report, path, node, name)


def _missing_key(report: _Report, path: Path, node: Node, name: str) -> None:
    entry = node.entries.get(name) if isinstance(node, Mapping) else None
    inside = f" in {human(path)}" if path else ""
    about = report.shape.schemas.get(path, root_schema()).get("properties", {}).get(name, {})
    hint = resolved(about).get("description", "")
    where = pointer_of((*path, name))
    if entry is not None:
        message = f'the key "{name}"{inside} has no value'
        report.found.node(entry.key, "LJ105", message, hint=hint, pointer=where)
    else:
        message = f'missing key "{name}"{inside}'
        place = _owner(report, path) or node
        report.found.node(place, "LJ105", message, hint=hint, pointer=pointer_of(path))
    report.bad.append((*path, name))


def _owner(report: _Report, path: Path) -> Node | None:
    """The key that a block mapping belongs to: what is missing has no better place."""
    above = report.node(path[:-1]) if path else None
    if isinstance(above, Mapping) and path[-1] in above.entries:
        return above.entries[str(path[-1])].key
    return None


def _wrong_type(report: _Report, path: Path, fault: _Fault) -> None:
    kinds = types({"type": fault.wanted})
    expected = listed(_TYPE_NAMES[kind] for kind in kinds)
    node = report.node(path)
    hint = ""
    if isinstance(node, Scalar):
        text = "the text " if not node.plain and "string" not in kinds else ""
        got = f"not {text}{_quoted(report, path)}" if not is_nothing(node) else "but has no value"
        if "array" in kinds and not is_nothing(node):
            hint = f"write [{shown(node.written)}]"
        elif not node.plain and not node.pieces and node.style in ("'", '"'):
            hint = "remove the quotes, if the value is right"
    else:
        got = "not a list" if isinstance(node, Sequence) else "not a mapping"
    report.tell(path, "LJ104", f"{_subject(path)} must be {expected}, {got}", hint)


def _unknown_value(report: _Report, path: Path, fault: _Fault) -> None:
    allowed = [str(value) for value in fault.wanted]
    guess = suggestion(str(fault.value), allowed)
    near = f' (did you mean "{guess}"?)' if guess else ""
    message = f"{_subject(path)} cannot be {_quoted(report, path)}{near}"
    report.tell(path, "LJ106", message, f"it is one of {listed(allowed)}")


def _bad_format(report: _Report, path: Path, fault: _Fault) -> None:
    code, _ = FORMATS[fault.wanted]
    about = resolved(report.shape.schemas.get(path, {}))
    message = f"{_subject(path)}: {_quoted(report, path)} {_reason(report, path, fault)}"
    report.tell(path, code, message, about.get("description", ""))


def _reason(report: _Report, path: Path, fault: _Fault) -> str:
    """What is wrong with the text; without quoting it where it came from a variable."""
    node = report.node(path)
    if isinstance(node, Scalar) and (node.secrets or masked_url(node.written) != node.written):
        return "is not valid" if not node.secrets else "does not expand to a valid value"
    return fault.cause


def _is_reserved(name: str) -> bool:
    return name.lower().startswith("sqlite_")


_RESERVED_HINT = "names that start with sqlite_ belong to SQLite"


def _bad_name(report: _Report, path: Path, fault: _Fault) -> None:
    is_name = report.shape.schemas.get(path, {}).get("title") == "name"
    if is_name and _is_reserved(fault.value):
        message = f"{_subject(path)}: {_quoted(report, path)} is reserved"
        report.tell(path, "LJ202", message, _RESERVED_HINT)
        return
    rule = _NAME_RULE if is_name else "letters, digits, underscores, dots and hyphens"
    message = f"{_subject(path)}: {_quoted(report, path)} is not a valid name"
    report.tell(path, "LJ112", message, rule)


def _property_name(report: _Report, path: Path, fault: _Fault) -> None:
    node = report.node(path)
    name = str(fault.value)
    assert isinstance(node, Mapping)
    where = (*path, name)
    key = node.entries[name].key
    if _is_reserved(name):
        message = f'"{shown(name)}" in {human(path)} is reserved'
        hint, pointer = _RESERVED_HINT, pointer_of(where)
        report.found.node(key, "LJ202", message, hint=hint, pointer=pointer)
        report.bad.append(where)
        return
    what = "header" if human(path).endswith("headers") else "name"
    message = f'"{shown(name)}" in {human(path)} is not a valid {what}'
    hint = _NAME_RULE if what == "name" else "headers are letters, digits and hyphens"
    report.found.node(key, "LJ112", message, hint=hint, pointer=pointer_of(where))
    report.bad.append(where)


_BOUNDS = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} keys",
    "maxProperties": "must have at most {} keys",
}


def _out_of_bounds(report: _Report, path: Path, fault: _Fault) -> None:
    rule, bound = fault.rule, fault.wanted
    told = _BOUNDS[rule].format(bound)
    if rule.startswith("min") and bound == 1 and rule != "minimum":
        told = "must not be empty"
    got = f", not {_quoted(report, path)}" if "imum" in rule.lower() else ""
    report.tell(path, "LJ111", f"{_subject(path)} {told}{got}")


def _repeated(report: _Report, path: Path, fault: _Fault) -> None:
    seen: set[str] = set()
    for index, item in enumerate(fault.value):
        if repr(item) in seen:
            where = (*path, index)
            report.tell(where, "LJ117", f"{_quoted(report, where)} stands twice in {human(path)}")
        seen.add(repr(item))


def _either(report: _Report, path: Path, fault: _Fault) -> None:
    names = [name for option in fault.wanted for name in option["required"]]
    node = report.node(path)
    have = [name for name in names if name in fault.value]
    pointer = pointer_of(path)
    if have and isinstance(node, Mapping):
        entry: Entry = node.entries[have[1]]
        message = f"{human(path)} has both {listed(have, 'and')}"
        report.found.node(entry.key, "LJ114", message, hint="keep one of them", pointer=pointer)
    else:
        message = f"missing key {listed(chr(34) + name + chr(34) for name in names)}"
        message += f" in {human(path)}" if path else ""
        place = _owner(report, path) or node
        report.found.node(place, "LJ114", message, hint="exactly one is needed", pointer=pointer)
    report.bad.extend((*path, name) for name in names)


def _needs_another(report: _Report, path: Path, fault: _Fault) -> None:
    node = report.node(path)
    for name, needed in fault.wanted.items():
        lacking = [key for key in needed if key not in fault.value]
        if name in fault.value and lacking and isinstance(node, Mapping):
            message = f"{human((*path, name))} needs {listed(lacking, 'and')}"
            where = pointer_of((*path, name))
            report.found.node(node.entries[name].key, "LJ114", message, pointer=where)
            report.bad.append(path)


_Teller = Callable[[_Report, Path, _Fault], None]
_TELLERS: dict[str, _Teller] = {
    "additionalProperties": _unknown_keys,
    "required": _missing,
    "type": _wrong_type,
    "enum": _unknown_value,
    "format": _bad_format,
    "pattern": _bad_name,
    "propertyNames": _property_name,
    "uniqueItems": _repeated,
    "oneOf": _either,
    "dependentRequired": _needs_another,
    **dict.fromkeys(_BOUNDS, _out_of_bounds),
}
