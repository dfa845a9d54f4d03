"""Checks that a request has a place for what is to be put into it.

Called by `semantic` for each api source. Without the place every page, or every record of the other
topic, would be the same request.
"""

from typing import Any

from litejoin.config.diagnostics import Diagnostics
from litejoin.config.document import Document

POSITIONS = {"page": "param", "offset": "offset_param"}
"""Kinds of pagination whose token is a number, and the key of its name."""


def check_placeholders(
    document: Document, pointer: str, api: dict[str, Any], found: Diagnostics
) -> None:
    """Add a finding for each placeholder that is missing."""
    if not document.is_unknown(f"{pointer}/url"):
        _check_page(document, pointer, api, found)
        _check_parent(document, pointer, api, found)
    _check_session(document, pointer, api, found)


def _check_page(document: Document, pointer: str, api: dict[str, Any], found: Diagnostics) -> None:
    paging = api["pagination"]
    name = paging.get(POSITIONS.get(paging["type"], ""))
    if name is None or paging["inject"] != "path" or f"{{{name}}}" in api["url"]:
        return
    where = f"{pointer}/pagination/inject"
    message = f'inject: path needs "{{{name}}}" in the url'
    found.add(document.finding("LJ114", where, message))


def _check_parent(
    document: Document, pointer: str, api: dict[str, Any], found: Diagnostics
) -> None:
    if "for_each" not in api:
        return
    place = f"{{{api['for_each']['param']}}}"
    if any(place in str(api.get(key, "")) for key in ("url", "params", "body")):
        return
    message = f'for_each needs "{place}" in the url, the params or the body'
    hint = "without it every record of the other topic makes the same request"
    found.add(document.finding("LJ114", f"{pointer}/for_each", message, hint=hint))


def _check_session(
    document: Document, pointer: str, api: dict[str, Any], found: Diagnostics
) -> None:
    auth = api.get("auth", {})
    where = f"{pointer}/auth/inject"
    if auth.get("type") != "session" or document.is_unknown(where):
        return
    name, _, text = auth["inject"].partition(":")
    if not name.strip() or "{token}" not in text:
        message = 'inject needs a header and "{token}", as in "X-Session: {token}"'
        found.add(document.finding("LJ114", where, message))
