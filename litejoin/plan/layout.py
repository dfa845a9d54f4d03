"""Lays out the text form of a plan: aligned columns and wrapped lines on a page of 100 columns."""

from collections.abc import Iterable, Sequence

PAGE_WIDTH = 100
GAP = "   "


def table(rows: Sequence[Sequence[str]], indent: int = 2) -> list[str]:
    """The lines of `aligned` in one list."""
    return [line for lines in aligned(rows, indent) for line in lines]


def aligned(rows: Sequence[Sequence[str]], indent: int = 2) -> list[list[str]]:
    """The lines of each row, its cells in aligned columns; the last column wraps under itself.

    Every row has the same number of cells. A cell too long for its column pushes the others of its
    row to the right rather than being cut.
    """
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    laid = []
    for row in rows:
        head = "".join(
            f"{cell:<{width}}{GAP}" for cell, width in zip(row[:-1], widths[:-1], strict=True)
        )
        laid.append(wrapped(" " * indent + head + row[-1], hanging=indent + len(head)))
    return laid


def wrapped(text: str, hanging: int = 4) -> list[str]:
    """The text in lines of at most 100 columns, broken at spaces; later lines are indented.

    A word longer than a line is cut into pieces: a URL or an SQL fragment stays complete.
    """
    # Where the hanging indent leaves no room to speak of, a small one is the better page.
    indent = " " * (hanging if hanging <= PAGE_WIDTH * 6 // 10 else 6)
    lines = []
    rest = text.rstrip()
    while len(rest) > PAGE_WIDTH:
        body = len(rest) - len(rest.lstrip())
        at = rest.rfind(" ", body + 1, PAGE_WIDTH + 1)
        if at <= len(indent):
            at = PAGE_WIDTH
        lines.append(rest[:at].rstrip())
        rest = indent + rest[at:].lstrip()
    lines.append(rest)
    return lines


def section(title: str, lines: Iterable[str]) -> list[str]:
    """A blank line, the title and its lines; nothing when there are no lines."""
    body = list(lines)
    return ["", title, *body] if body else []
