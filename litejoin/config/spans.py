"""Checks of lengths of time: those that are rounded, and windows of which a message is in too many.

Called by `check` and `semantic`. Each length is sound by itself.
"""

from typing import Any

from litejoin.config.diagnostics import Diagnostics, pointer_of
from litejoin.config.document import Document
from litejoin.config.nodes import Scalar
from litejoin.config.shape import Shape
from litejoin.config.text import shown
from litejoin.config.values import NS_PER_MS, parse_duration_ms, parse_duration_ns

MAX_SPANS = 500
"""Windows that one message may be in. So many are evaluated in one transaction (MAX_FIRINGS of the
engine); with updates, one message is more than that at once."""

LEAST_SLIDE_MS = 10
"""100 results a second for a key. The engine evaluates 1,000 to 10,000 windows a second, which all
keys share."""


def check_rounded(shape: Shape, found: Diagnostics) -> None:
    """Add a finding for each duration that is no whole number of milliseconds."""
    for path, node in shape.nodes.items():
        schema = shape.schemas[path]
        if not isinstance(node, Scalar) or node.unknown:
            continue
        if not str(schema.get("format", "")).startswith("go-duration"):
            continue
        try:
            rest = parse_duration_ns(node.text) % NS_PER_MS
        except ValueError:
            continue  # told by its own code
        if rest:
            taken_ms = parse_duration_ms(node.text)
            message = f'"{shown(node.written)}" is taken for {taken_ms}ms'
            hint = "time is counted in whole milliseconds"
            found.node(node, "LJ118", message, hint=hint, pointer=pointer_of(path))


def check_slide(
    document: Document, pointer: str, window: dict[str, Any], found: Diagnostics
) -> None:
    """Add a finding where a sliding window asks for more results than can be made."""
    if any(document.is_unknown(f"{pointer}/{key}") for key in ("size", "slide")):
        return
    size_ms, slide_ms = parse_duration_ms(window["size"]), parse_duration_ms(window["slide"])
    spans = -(-size_ms // slide_ms)
    if spans <= MAX_SPANS:
        return
    if window["emit"] == "update" or window["on_late"] == "update":
        what = "message" if window["emit"] == "update" else "late message"
        message = f"each {what} changes {spans:,} windows (size / slide), which are all evaluated"
        message += " and sent at once"
        least_ms = -(-size_ms // MAX_SPANS)
        hint = f"{MAX_SPANS} fill a transaction; slide: {least_ms}ms or longer"
    elif slide_ms < LEAST_SLIDE_MS:
        message = f"a message is in {spans:,} windows (size / slide), {1000 // slide_ms:,} of which"
        message += " end every second: each is evaluated and sent, for each key"
        hint = "the engine evaluates some thousand a second for all keys;"
        hint += f" slide: {LEAST_SLIDE_MS}ms or longer"
    else:
        return
    found.add(document.finding("LJ228", f"{pointer}/slide", message, hint=hint))
