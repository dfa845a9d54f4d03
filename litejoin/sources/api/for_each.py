"""One walk for each record of another topic: the drafts, and fields copied into the children.

Used by `walk`. The other topic is read once a poll, as it is then; values that repeat are asked for
once. Knows nothing of pages.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from litejoin._ext.gjson import split
from litejoin.errors import JsonError, PollError
from litejoin.plan.nodes_api import ForEachPlan
from litejoin.sources.api.document import Document
from litejoin.sources.api.request import Draft


@dataclass(frozen=True, slots=True)
class Target:
    """Where one walk of a poll goes. `value`: what the parent has at the path. `copied`: members
    for each of its records, as JSON text.
    """

    draft: Draft
    value: str = ""
    copied: tuple[tuple[str, bytes], ...] = ()


def targets(plan: ForEachPlan, draft: Draft, parents: Sequence[bytes]) -> Iterator[Target]:
    """A target for each value that the parents have at the path."""
    seen: set[str] = set()
    for payload in parents:
        parent = Document(payload)
        try:
            value = parent.token(plan.path)
        except PollError:
            continue  # an object where a value should be: no request can be made of it
        if value is None or str(value) in seen:
            continue
        seen.add(str(value))
        yield Target(filled(draft, plan.param, str(value)), str(value), _copied(plan, parent))


def filled(draft: Draft, name: str, value: str) -> Draft:
    """The draft with `{name}` of its URL, parameters and body replaced."""
    place = f"{{{name}}}"
    params = {key: text.replace(place, value) for key, text in draft.params.items()}
    body = draft.body
    if body is not None and place in body:
        body = body.replace(place, json.dumps(value)[1:-1])
    return Draft(
        draft.method,
        draft.with_value("path", name, value).url if place in draft.url else draft.url,
        draft.headers,
        body,
        params,
        draft.fields,
    )


def with_parent(body: bytearray, response_path: str, target: Target) -> bytearray:
    """The page's records as one array, each with the copied members; its own ones win.

    Raises PollError when the body holds no records.
    """
    found = Document(body).raw(response_path or "@this")
    if found is None or found[:1] not in (b"[", b"{"):
        raise PollError(f"no records at response_path {response_path}")
    try:
        spans = split(found) if found[:1] == b"[" else [(0, len(found))]
    except JsonError as error:
        raise PollError(str(error)) from None
    out = bytearray(b"[")
    for start, end in spans:
        out += b"," if len(out) > 1 else b""
        out += _joined(found[start:end], target)
    return out + b"]"


def _joined(record: bytes, target: Target) -> bytes:
    if record[:1] != b"{":
        return record
    own = Document(record)
    new = [
        json.dumps(name).encode() + b":" + value
        for name, value in target.copied
        if own.raw(_escaped(name)) is None
    ]
    inner = record[1:-1].strip()
    return b"{" + b",".join([*([inner] if inner else []), *new]) + b"}"


def _copied(plan: ForEachPlan, parent: Document) -> tuple[tuple[str, bytes], ...]:
    found = ((path.rpartition(".")[2], parent.raw(path)) for path in plan.include)
    return tuple((name, raw) for name, raw in found if raw is not None)


def _escaped(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else f"\\{c}" for c in name)
