"""Every rule finds its example: each file of tests/configs/invalid names code, line and column."""

import re
from pathlib import Path

import pytest

from litejoin.config import load_config
from litejoin.config.codes import CODES
from litejoin.config.diagnostics import MAX_FINDINGS, Diagnostic
from litejoin.plan.compile import compile_plan

FOLDER = Path(__file__).resolve().parents[3] / "tests/configs/invalid"
FILES = sorted(FOLDER.glob("*.yaml"))
SET = re.compile(r"^# set (.+)$", re.MULTILINE)
"""A line with what `--set` gets."""
EXPECT = re.compile(rb"^# expect (LJ\d+) (\d+):(\d+)$", re.MULTILINE)
ENVIRONMENT = {"API_TOKEN": "fedcba9876543210"}


def expected(path: Path) -> list[tuple[str, int, int]]:
    found = EXPECT.findall(path.read_bytes())
    return sorted((code.decode(), int(line), int(column)) for code, line, column in found)


def findings(path: Path) -> list[Diagnostic]:
    """What `validate` prints; of more than a thousand findings the one that says so."""
    sets = SET.findall(path.read_bytes().decode("utf-8", "replace"))
    document, found = load_config(path, env=ENVIRONMENT, sets=sets)
    if document is None:
        return found[-1:] if len(found) > MAX_FINDINGS else found
    plan, more = compile_plan(document)
    found = document.visible([*found, *more])
    assert (plan is None) == any(finding.level == "error" for finding in found)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_exactly_the_expected_findings(path: Path) -> None:
    found = findings(path)
    shown = "\n".join(f"{f.line}:{f.column} {f.code} {f.message} | {f.hint}" for f in found)
    assert sorted((f.code, f.line, f.column) for f in found) == expected(path), shown


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.name.startswith("LJ2")], ids=lambda path: path.stem
)
def test_what_is_wrong_in_meaning_has_a_pointer(path: Path) -> None:
    document, found = load_config(path, env=ENVIRONMENT)
    assert document is not None
    for finding in found:
        if finding.code.startswith("LJ2"):
            assert document.place(finding.pointer).line == finding.line


def test_every_file_is_about_the_code_in_its_name() -> None:
    assert len(FILES) >= 120
    for path in FILES:
        assert path.name[:5] in {code for code, _, _ in expected(path)}, path.name


def test_every_rule_has_an_example() -> None:
    refused = {"LJ270"}  # no feature of the language, in this version
    assert {path.name[:5] for path in FILES} == set(CODES) - refused
