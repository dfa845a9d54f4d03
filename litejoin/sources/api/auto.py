"""`pagination: auto`: which kind an API uses, guessed from its first answer.

Called by `walk` after the first page of a walk whose kind is not known yet. In order: a Link
header, a field with the next URL, a field with a cursor. Guesses only what the answer shows; a list
that says it has more and does not show how is an incomplete walk, never a short one.
"""

from dataclasses import replace

from litejoin.plan.nodes_api import PagingPlan
from litejoin.sources.api.document import Document
from litejoin.sources.api.pagination import Incomplete, linked
from litejoin.sources.api.transport import Response

NEXT_URLS = (
    "next", "next_url", "nextUrl", "next_page_url", "nextPageUrl", "next_link", "nextLink",
    r"@odata\.nextLink", r"odata\.nextLink", "nextRecordsUrl", "next_page", "nextPage",
    "links.next", "links.next.href", "_links.next", "_links.next.href", "paging.next",
    "paging.next.link", "pagination.next", "pagination.next_url", "pagination.next_link",
    "pagination.links.next", "meta.next", "meta.next_url", "meta.next_page_url",
    "meta.pagination.links.next", "info.next", "metadata.next",
)  # fmt: skip
"""Fields whose value is the next page's URL when it looks like one."""

CURSORS = {
    "next_cursor": "cursor",
    "nextCursor": "cursor",
    "cursor.next": "cursor",
    "cursors.next": "cursor",
    "cursors.after": "after",
    "meta.next_cursor": "cursor",
    "meta.nextCursor": "cursor",
    "meta.cursor.next": "cursor",
    "meta.next_token": "next_token",
    "response_metadata.next_cursor": "cursor",
    "pagination.next_cursor": "cursor",
    "pagination.nextCursor": "cursor",
    "pagination.cursor": "cursor",
    "paging.next.after": "after",
    "paging.cursors.after": "after",
    "next_page_token": "page_token",
    "nextPageToken": "pageToken",
    "next_token": "next_token",
    "nextToken": "nextToken",
    "after_cursor": "cursor",
}
"""Fields with a cursor, and the parameter that usually takes it."""

MORE = ("has_more", "hasMore", "meta.has_more", "pagination.has_more", "paging.has_more")


def guess(plan: PagingPlan, answer: Response, records: int) -> PagingPlan | None:
    """The plan with its kind found out; None when the answer shows no next page.

    Raises Incomplete when it says that there is one.
    """
    if linked(answer.headers.get("link", ""), "next"):
        return replace(plan, kind="link_header")
    if answer.body[:64].lstrip()[:1] != b"{":
        return None
    document = Document(answer.body, judged=True)
    more = next((path for path in MORE if document.flag(path) is not None), "")
    if records and not (more and not document.flag(more)):
        for path in NEXT_URLS:
            value = document.value(path)
            if isinstance(value, str) and value.startswith(("http://", "https://", "/", "?")):
                return replace(plan, kind="next_url", path=path, has_more_path=more)
        for path, param in CURSORS.items():
            if _is_token(document, path):
                return replace(plan, kind="cursor", path=path, param=param, has_more_path=more)
    if more and document.flag(more):
        raise Incomplete(f"{more} is true, but nothing in the response says how to go on")
    return None


def describe(plan: PagingPlan) -> str:
    """`cursor (meta.next_cursor -> cursor)`, for the log and for `poll`."""
    if plan.kind == "next_url":
        return f"next_url ({plan.path})"
    if plan.kind == "cursor":
        return f"cursor ({plan.path} -> {plan.param or plan.body_path})"
    if plan.kind == "link_header":
        return f"link_header (rel {plan.rel})"
    return plan.kind


def _is_token(document: Document, path: str) -> bool:
    value = document.value(path)
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
