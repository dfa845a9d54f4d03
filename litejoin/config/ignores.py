"""Inline `# litejoin: ignore[LJ204]` comments: which findings they hide.

A comment counts for its own line and, when it stands alone on a line, for the next one. A finding
inside of a block scalar (SQL) is hidden by a comment at the scalar's first line, since a `#` inside
would be SQL. Only warnings and unknown keys can be ignored; the rest leaves nothing to run.
"""

import re
from dataclasses import dataclass, field

from litejoin.config.codes import CODES
from litejoin.config.diagnostics import Diagnostic, Diagnostics
from litejoin.config.nodes import Source
from litejoin.config.text import shown

_COMMENT = re.compile(r"(?:^|[ \t])#[ \t]*litejoin:[ \t]*ignore\[([^\]\r\n]*)\]", re.MULTILINE)


@dataclass(slots=True)
class Ignores:
    """Codes that are ignored, by line."""

    file: str = ""
    lines: dict[int, frozenset[str]] = field(default_factory=dict)

    def hides(self, finding: Diagnostic, block_line: int | None = None) -> bool:
        """True when a comment hides the finding. `block_line`: first line of its block scalar."""
        rule = CODES[finding.code]
        if finding.file != self.file or not rule.ignorable:
            return False
        lines = (finding.line, block_line or finding.line)
        return any(finding.code in self.lines.get(line, ()) for line in lines)


def read_ignores(source: Source, found: Diagnostics) -> Ignores:
    """Find the comments of a source; codes that do not exist or cannot be ignored are findings."""
    ignores = Ignores(source.name)
    for comment in _COMMENT.finditer(source.text):
        codes = {code.strip() for code in comment[1].split(",")} - {""}
        for code in sorted(codes):
            if code not in CODES or not CODES[code].ignorable:
                what = "cannot be ignored" if code in CODES else "is no rule code"
                found.at(
                    source, comment.start(1), "LJ140", f'"{shown(code)}" {what}',
                    length=len(comment[1]),
                )  # fmt: skip
        line = source.place(comment.start(1)).line
        alone = source.line(line).lstrip().startswith("#")
        for number in (line, line + 1) if alone else (line,):
            ignores.lines[number] = ignores.lines.get(number, frozenset()) | codes
    return ignores
