"""Every rule finds its example: each file of tests/configs/invalid names code, line and column."""

import re
from pathlib import Path

import pytest

from litejoin.config import load_config
from litejoin.config.codes import CODES
from litejoin.plan.compile import compile_plan

FOLDER = Path(__file__).resolve().parents[3] / "tests/configs/invalid"
FILES = sorted(FOLDER.glob("*.yaml"))
NO_FILE = {"LJ128", "LJ133"}
"""Rules that need a thousand findings or a `--set`: test_document has their examples."""

EXPECT = re.compile(rb"^# expect (LJ\d+) (\d+):(\d+)$", re.MULTILINE)
ENVIRONMENT = {"API_TOKEN": "fedcba9876543210"}


def expected(path: Path) -> list[tuple[str, int, int]]:
    found = EXPECT.findall(path.read_bytes())
    return sorted((code.decode(), int(line), int(column)) for code, line, column in found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_exactly_the_expected_findings(path: Path) -> None:
    document, found = load_config(path, env=ENVIRONMENT)
    if document is not None:
        found = document.visible([*found, *compile_plan(document)[1]])
    shown = "\n".join(f"{f.line}:{f.column} {f.code} {f.message} | {f.hint}" for f in found)
    assert sorted((f.code, f.line, f.column) for f in found) == expected(path), shown


def test_every_rule_has_an_example() -> None:
    shown = {code for path in FILES for code, _, _ in expected(path)}
    assert shown == set(CODES) - NO_FILE
