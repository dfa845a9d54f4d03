"""How findings about a config are printed: full, concise, json, github, sarif.

Used by `validate`, and by `plan` and `run` for a config that they refuse. Writes nothing itself:
every function returns the text.
"""

import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from litejoin import __version__
from litejoin.config.codes import CODES
from litejoin.config.diagnostics import Diagnostic, json_object
from litejoin.config.nodes import Source
from litejoin.config.text import printable

EXCERPT_WIDTH = 120
"""Columns of a source line in an excerpt; a longer one is cut around the caret."""

SECRET_IN_CLEAR = "LJ261"
"""The rule whose findings mark a secret: an excerpt in a CI log must not publish it."""

_COLORS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "bold": "\x1b[1m", "dim": "\x1b[2m"}
_RESET = "\x1b[0m"

Texts = Mapping[str, str]
"""Texts of the files that were checked, by the name that findings call them."""


def use_colors(stream: TextIO) -> bool:
    """True for a terminal, unless NO_COLOR is set or the terminal is dumb."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream.isatty()


def full(findings: Sequence[Diagnostic], texts: Texts, *, colors: bool = False) -> str:
    """Each finding with an excerpt of the file, then one line that counts them."""
    paint = _painter(colors)
    sources = {name: _masked(Source(name, text), findings) for name, text in texts.items()}
    parts = [_full_one(finding, sources, paint) for finding in findings]
    return "\n".join([*parts, f"{summary(findings, len(texts))}\n"])


_SECRET_VALUE = re.compile(
    r"""(?<![\w-])([\w-]{1,64})["']?[ \t]{0,9}:[ \t]{1,99}"""
    r"""(?=[^\s|>&*{\[$])([^\s,}\]][^,}\]\r\n]*)"""
)
_SECRET_KEY = re.compile(
    r"(pass|pwd|secret|token|credential|authori[sz]ation|api[_-]?key|cookie)"
    r"(?!.*[_-](path|url|file|param|header)$)",
    re.IGNORECASE,
)
"""A key and its value on one line; what starts a block, a list or a variable is no secret."""


def _masked(source: Source, findings: Sequence[Diagnostic]) -> Source:
    """The source without its BOM and without secrets: those that findings point at, and values of
    keys that are named like secrets, misspelt or not.
    """
    source = Source(source.name, source.text.removeprefix("\ufeff"))
    text = source.text
    for finding in findings:
        if finding.code == SECRET_IN_CLEAR and finding.file == source.name:
            start = source.index(finding.line, finding.column)
            end = start + finding.length
            text = text[:start] + "*" * (end - start) + text[end:]
    return Source(source.name, _SECRET_VALUE.sub(_stars, text))


def _stars(match: re.Match[str]) -> str:
    if not _SECRET_KEY.search(match[1]) or "${" in match[2]:
        return match[0]
    return match[0][: match.start(2) - match.start()] + "*" * len(match[2])


def summary(findings: Sequence[Diagnostic], files: int) -> str:
    """`2 errors, 1 warning in 1 file`."""
    counts = [
        _counted(sum(finding.level == level for finding in findings), level)
        for level in ("error", "warning")
        if any(finding.level == level for finding in findings)
    ]
    return f"{', '.join(counts) or 'no findings'} in {_counted(files, 'file')}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


Paint = Callable[[str, str], str]


def _painter(colors: bool) -> Paint:
    def paint(style: str, text: str) -> str:
        return f"{_COLORS[style]}{text}{_RESET}" if colors and text else text

    return paint


def _full_one(finding: Diagnostic, sources: Mapping[str, Source], paint: Paint) -> str:
    place = paint("bold", f"{printable(finding.file)}:{finding.line}:{finding.column}:")
    level = paint(finding.level, f"{finding.code} {finding.level}:")
    lines = [f"{place} {level} {printable(finding.message)}"]
    source = sources.get(finding.file)
    margin = " " * len(str(finding.line))
    if source is not None:
        lines += _excerpt(finding, source, margin, paint)
    if finding.hint:
        lines.append(f"{margin} {paint('dim', '=')} help: {printable(finding.hint)}")
    return "\n".join(lines) + "\n"


def _excerpt(finding: Diagnostic, source: Source, margin: str, paint: Paint) -> list[str]:
    bar = paint("dim", "|")
    lines = [f"{margin} {bar}"]
    before = source.line(finding.line - 1)
    text, column = source.line(finding.line), finding.column - 1
    start = max(0, column - EXCERPT_WIDTH * 2 // 3) if len(text) > EXCERPT_WIDTH else 0
    if before.strip() and not start:
        number = str(finding.line - 1).rjust(len(margin))
        lines.append(f"{paint('dim', number)} {bar} {_visible(before[:EXCERPT_WIDTH])}".rstrip())
    shown = text[start : start + EXCERPT_WIDTH]
    lines.append(f"{paint('dim', str(finding.line))} {bar} {_visible(shown)}".rstrip())
    marked = shown[column - start : column - start + finding.length]
    caret = " " * _width(shown[: column - start]) + paint(
        finding.level, "^" * max(1, _width(marked))
    )
    lines.append(f"{margin} {bar} {caret}")
    return lines


def _visible(text: str) -> str:
    """One cell a character, so that the caret stands right: tabs become blanks."""
    return printable(text.replace("\t", " "), "�")


def _width(text: str) -> int:
    """Terminal cells of a text."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def concise(findings: Sequence[Diagnostic]) -> str:
    """`file:line:col: CODE level: text`, one line a finding."""
    return "".join(
        f"{printable(f.file)}:{f.line}:{f.column}: {f.code} {f.level}: {printable(f.message)}\n"
        for f in findings
    )


def as_json(findings: Sequence[Diagnostic]) -> str:
    """A JSON array with stable field names."""
    objects = [json_object(finding) for finding in findings]
    return json.dumps(objects, indent=2) + "\n"


def github(findings: Sequence[Diagnostic]) -> str:
    """GitHub Actions workflow commands: annotations in a pull request."""
    return "".join(
        f"::{f.level} file={_property(f.file)},line={f.line},col={f.column},"
        f"endColumn={f.column + f.length},title={_property(f.code)}::"
        f"{_data(f.message + (f' ({f.hint})' if f.hint else ''))}\n"
        for f in findings
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def sarif(findings: Sequence[Diagnostic]) -> str:
    """SARIF 2.1.0, for code scanning."""
    codes = sorted({finding.code for finding in findings})
    run = {
        "tool": {
            "driver": {
                "name": "litejoin",
                "version": __version__,
                "rules": [_sarif_rule(code) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(finding, codes) for finding in findings],
    }
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(log, indent=2) + "\n"


def _sarif_rule(code: str) -> dict[str, object]:
    rule = CODES[code]
    return {
        "id": code,
        "name": "".join(word.capitalize() for word in rule.title.split()),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.cause},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": rule.level},
    }


def _sarif_result(finding: Diagnostic, codes: Sequence[str]) -> dict[str, object]:
    text = finding.message + (f" ({finding.hint})" if finding.hint else "")
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endColumn": finding.column + finding.length,
    }
    location = {"artifactLocation": {"uri": _uri(finding.file)}, "region": region}
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": finding.level,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
    }


def _uri(file: str) -> str:
    from urllib.parse import quote  # only for this format

    return quote(file.replace("\\", "/"), errors="surrogateescape")
