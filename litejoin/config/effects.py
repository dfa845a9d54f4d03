"""Checks that a key does something beside the others, and that what it says can be sent.

Called by `semantic`. Each key here is sound by itself: without this check it would be passed over
in silence, or fail at every request.
"""

import json
from collections.abc import Iterator
from typing import Any

from litejoin.config.diagnostics import Diagnostics
from litejoin.config.document import Document
from litejoin.config.text import listed, shown
from litejoin.config.values import check_header_name

FRAMING = frozenset({"content-length", "transfer-encoding"})
"""Headers that say where a body ends: one that says something else makes a request unreadable."""

_PARAMS = ("param", "limit_param", "offset_param", "size_param", "from_param", "to_param")


def check_effects(document: Document, found: Diagnostics) -> None:
    """Add a finding for each key that would do nothing, or harm."""
    for index, source in enumerate(document.value["sources"]):
        if source["type"] == "api":
            api, pointer = source["api"], f"/sources/{index}/api"
            _check_idle(document, pointer, api, found)
            _check_params(document, f"{pointer}/pagination", api["pagination"], found)
            _check_auth(document, f"{pointer}/auth", api.get("auth", {}), found)
            _check_body(document, pointer, api, found)
            _check_headers(document, pointer, api, found)
    for index, window in enumerate(document.value["windows"]):
        for key in ("time_format", "idle_timeout"):
            pointer = f"/windows/{index}/{key}"
            if "time_path" not in window:
                find_idle(document, pointer, '"time_path"', found)
    for index, sink in enumerate(document.value["sinks"]):
        if sink["type"] == "http":
            pointer = f"/sinks/{index}/config"
            _check_auth(document, f"{pointer}/auth", sink["config"].get("auth", {}), found)
            _check_headers(document, pointer, sink["config"], found)
            _check_responses(document, f"{pointer}/responses", found)
            _check_webhook(document, pointer, sink["config"], found)
        if sink["type"] in ("sqlite", "postgres") and "table" in sink["config"]:
            _check_table(document, f"/sinks/{index}/config/table", sink["name"], found)


def _check_idle(document: Document, pointer: str, api: dict[str, Any], found: Diagnostics) -> None:
    paging, limit = api["pagination"], api.get("rate_limit", {})
    filters = api["watermark"]["strategy"] in ("timestamp", "cursor")
    is_limited = "requests_per_second" in limit or "requests_per_minute" in limit
    for key, is_of_use, needed in (
        ("include_from_parent", "for_each" in api, '"for_each"'),
        ("full_sweep_interval", filters, "a watermark of strategy timestamp or cursor"),
        ("pagination/size_param", "size" in paging, '"size"'),
        ("rate_limit/burst", is_limited, '"requests_per_second" or "requests_per_minute"'),
    ):
        if not is_of_use:
            find_idle(document, f"{pointer}/{key}", needed, found)


def find_idle(document: Document, pointer: str, needed: str, found: Diagnostics) -> None:
    """Add a finding where the config has a key that does nothing without something else."""
    if document.has(pointer):
        message = f"{pointer.rpartition('/')[2]} needs {needed}"
        found.add(document.finding("LJ114", pointer, message))


def _check_params(
    document: Document, pointer: str, paging: dict[str, Any], found: Diagnostics
) -> None:
    """Two values under one name: the second replaces the first."""
    used: dict[str, str] = {}
    for key in _PARAMS:
        where = f"{pointer}/{key}"
        if key not in paging or document.is_unknown(where):
            continue
        name = paging[key]
        if paging.get("inject") == "header":
            _check_name(document, where, name, found)
        other = used.setdefault(name, key)
        if other != key:
            message = f'{other} and {key} are both "{shown(name)}"'
            found.add(document.finding("LJ117", where, message, hint="one would replace the other"))


def _check_auth(document: Document, pointer: str, auth: dict[str, Any], found: Diagnostics) -> None:
    if auth.get("type") == "api_key" and auth["in"] != "query":
        _check_name(document, f"{pointer}/name", auth["name"], found)
    if auth.get("type") == "session":
        name = auth["inject"].partition(":")[0].strip()
        if name:  # `placeholders` says what is missing
            _check_name(document, f"{pointer}/inject", name, found)


def _check_name(document: Document, pointer: str, name: str, found: Diagnostics) -> None:
    if document.is_unknown(pointer):
        return
    try:
        check_header_name(name)
    except ValueError as error:
        found.add(document.finding("LJ116", pointer, f'"{shown(name)}" {error}'))


def _check_headers(
    document: Document, pointer: str, request: dict[str, Any], found: Diagnostics
) -> None:
    for name in request.get("headers", {}):
        if name.lower() in FRAMING:
            message = f'"{shown(name)}" cannot be set: it follows from the body'
            found.add(document.finding("LJ112", f"{pointer}/headers/{name}", message))


def _check_body(document: Document, pointer: str, api: dict[str, Any], found: Diagnostics) -> None:
    body, where = api.get("body"), f"{pointer}/body"
    if body is None or "for_each" in api or document.is_unknown(where):
        return  # a placeholder may stand where JSON has a value
    key = next(_into_body(api), None)
    if key is not None and not _is_object(body):
        message = f"{key} needs a body that is a JSON object"
        found.add(document.finding("LJ114", where, message))


def _into_body(api: dict[str, Any]) -> Iterator[str]:
    """Keys that put something into the body."""
    for section in ("pagination", "watermark"):
        for key in ("body_path", "limit_body_path", "offset_body_path"):
            if key in api[section]:
                yield f"{section}.{key}"
    if api["pagination"].get("inject") == "body":
        yield "pagination.inject: body"


def _is_object(body: Any) -> bool:
    if isinstance(body, str):
        try:
            body = json.loads(body or "{}")
        except ValueError:
            return False
    return isinstance(body, dict)


def _check_table(document: Document, pointer: str, sink: str, found: Diagnostics) -> None:
    """One table holds the results of one join; a sink of several has one for each."""
    writers = []
    for item in (*document.value["joins"], *document.value["windows"]):
        if sink in (item.get("sink"), *item.get("sinks", ())):
            writers.append(item["name"])
        if sink == item.get("late_sink"):
            writers.append(f"the late messages of {item['name']}")
    if len(writers) > 1:
        message = f"table is for a sink of one join; {listed(writers, 'and')} write to this one"
        hint = "leave table out, and each has a table of its name, or make a sink for each"
        found.add(document.finding("LJ114", pointer, message, hint=hint))


def _check_webhook(
    document: Document, pointer: str, config: dict[str, Any], found: Diagnostics
) -> None:
    if "batch" in config and config["max_in_flight"] != 1:
        alone = 'a sink without "batch", which has one request open'
        find_idle(document, f"{pointer}/max_in_flight", alone, found)
    url = f"{pointer}/url"
    if not document.is_unknown(url) and config["url"].lower().startswith("http://"):
        find_idle(document, f"{pointer}/tls", "an https:// url", found)


def _check_responses(document: Document, pointer: str, found: Diagnostics) -> None:
    """What is written in two lists; a default gives way to what is written."""
    first: dict[str, str] = {}
    for name, statuses in document.get(pointer, {}).items():
        for index, status in enumerate(statuses):
            if not document.has(f"{pointer}/{name}"):
                continue
            other = first.setdefault(str(status).lower(), name)
            if other != name:
                message = f"{status} stands in {other} and in {name}"
                where = f"{pointer}/{name}/{index}"
                found.add(document.finding("LJ117", where, message, hint="keep one of them"))
