"""Keeps secrets out of everything that `plan` prints.

Two nets: by field (a `Secret`, a header, a password or a token in a URL) and then by value
(whatever the first net found is masked in every other text of the plan, unless the plan itself uses
that word). The plan is masked before it is laid out, so that no format and no line break can let a
part through.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args, get_origin
from urllib.parse import unquote_plus

from litejoin.plan import nodes, nodes_api
from litejoin.plan.nodes import Plan, Secret

MASK = "***"

Value = TypeVar("Value")

MIN_SECRET_LENGTH = 4
"""Shorter values are masked in their own field only: everywhere, they would garble the text."""

MIN_HEADER_LENGTH = 16
"""A header whose name does not say that it is secret counts by value from this length on:
"no-cache" is no secret, and masking "2024" everywhere would garble dates."""

_SECRET_NAME = re.compile(
    r"(^|[_.-])(app_?id|api_?key|key|tokens?|access_?token|auth|authorization|secret|passwd|password"
    r"|pwd|pass|sig|signature|credentials?|session|cookie|client_?secret|private_?key)$"
    r"|apikey|secret|token|password|credential",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"^([a-z][a-z0-9+.-]*://)([^/?#@]*)@", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{(file:)?[^:}]+\}")
"""`${NAME}` says where a secret comes from, not what it is."""
_PARAMETER = re.compile(r"([?&;#])([^=&;#]*)=([^&;#]*)")


def is_secret_name(name: str) -> bool:
    """True when a field, parameter or variable of this name holds a secret by custom."""
    return _SECRET_NAME.search(unquote_plus(name)) is not None


def shown_url(url: str) -> str:
    """The URL with user info and secret-looking parameters masked."""
    url = _USER_INFO.sub(rf"\1{MASK}@", url)
    return _PARAMETER.sub(_masked_parameter, url)


def secret_values(plan: object) -> frozenset[str]:
    """Every secret of a plan by value: `Secret` fields, and what `shown_url` hides in its URLs."""
    return frozenset(value for value in _walk(plan) if len(value) >= MIN_SECRET_LENGTH)


def hidden_values(plan: Plan, also: frozenset[str] = frozenset()) -> frozenset[str]:
    """What to mask by value when this plan is shown; `also` are values from the environment.

    A value that is part of a name (`name: shop-${STAGE}`) is not: names are in every result.
    """
    parts = (*plan.sources, *plan.topics, *plan.joins, *plan.windows, *plan.sinks)
    names = " ".join([plan.name, *(part.name for part in parts)])
    return frozenset(v for v in masked_by_value(secret_values(plan) | also) if v not in names)


def masked_by_value(secrets: Iterable[str]) -> frozenset[str]:
    """Those of the values that are masked wherever they stand, and not in their own field only.

    Not the words of the plan: with a token `none`, a plan without pages would have `***` pages, and
    with the password `postgres` a sink the type `***`.
    """
    return frozenset(s for s in secrets if len(s) >= MIN_SECRET_LENGTH and s not in _plan_words())


@cache
def _plan_words() -> frozenset[str]:
    """What fields of the plan's nodes say that take one of a few words."""
    known = (*vars(nodes).values(), *vars(nodes_api).values())
    parts = [
        field
        for node in known
        if isinstance(node, type) and dataclasses.is_dataclass(node)
        for field in dataclasses.fields(node)
    ]
    words = (get_args(part.type) for part in parts if get_origin(part.type) is Literal)
    return frozenset(word for choice in words for word in choice)


def redacted(plan: Plan, also: frozenset[str] = frozenset()) -> Plan:
    """The plan with every secret masked in every text. `also`: more values to mask."""
    return mask_all(plan, hidden_values(plan, also))


def mask_all(value: Value, secrets: frozenset[str]) -> Value:
    """A copy of a dataclass, mapping, sequence or text in which every secret reads `***`."""
    # The longest first: a secret may hold another one.
    ordered = sorted(secrets, key=lambda secret: (-len(secret), secret))
    pattern = re.compile("|".join(map(re.escape, ordered)) or "(?!)")
    return cast(Value, _masked(value, pattern))


def _masked(value: object, pattern: re.Pattern[str]) -> object:
    if isinstance(value, Secret):
        return Secret(MASK)
    if isinstance(value, str):
        return pattern.sub(MASK, shown_url(value) if "://" in value else value)
    if isinstance(value, Path):
        return Path(pattern.sub(MASK, str(value)))
    if isinstance(value, Mapping):
        return {name: _masked(part, pattern) for name, part in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return type(value)(_masked(part, pattern) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: _masked(getattr(value, field.name), pattern)
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    return value


def _masked_parameter(match: re.Match[str]) -> str:
    mark, name, value = match.groups()
    return f"{mark}{name}={MASK if _is_secret_parameter(name, value) else value}"


def _is_secret_parameter(name: str, value: str) -> bool:
    return bool(value) and is_secret_name(name) and not _REFERENCE.fullmatch(value)


def _walk(value: object) -> Iterator[str]:
    if isinstance(value, Secret):
        yield str(value)
        # "Bearer abc": the part behind the scheme is the secret as well.
        yield from str(value).split()[1:]
    elif isinstance(value, str):
        yield from _hidden_in_url(value)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if isinstance(part, str) and is_secret_name(str(name)):
                yield from _walk(Secret(part))
            elif not isinstance(part, Secret) or len(part) >= MIN_HEADER_LENGTH:
                yield from _walk(part)
    elif isinstance(value, tuple | list | frozenset):
        for part in value:
            yield from _walk(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _walk(getattr(value, field.name))


def _hidden_in_url(text: str) -> Iterator[str]:
    if "://" not in text:
        return
    info = _USER_INFO.match(text)
    if info:
        yield info.group(2).partition(":")[2] or info.group(2)
    for _, name, value in _PARAMETER.findall(text):
        if _is_secret_parameter(name, value):
            yield value
            yield unquote_plus(value)
