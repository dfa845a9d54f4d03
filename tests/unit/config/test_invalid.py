"""Every rule finds its example: each file of tests/configs/invalid names code, line and column."""

import re
from pathlib import Path

import pytest

from litejoin.config import load_config
from litejoin.config.codes import CODES

FOLDER = Path(__file__).resolve().parents[3] / "tests/configs/invalid"
FILES = sorted(FOLDER.glob("*.yaml"))
EXPECT = re.compile(rb"^# expect (LJ\d+) (\d+):(\d+)$", re.MULTILINE)
ENVIRONMENT = {"API_TOKEN": "fedcba9876543210"}

SQL_RULES = frozenset(code for code in CODES if "LJ210" <= code <= "LJ259")
"""Rules of the plan stage."""


def expected(path: Path) -> list[tuple[str, int, int]]:
    found = EXPECT.findall(path.read_bytes())
    return sorted((code.decode(), int(line), int(column)) for code, line, column in found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_exactly_the_expected_findings(path: Path) -> None:
    if expected(path)[0][0] in SQL_RULES:
        document, found = load_config(path, env=ENVIRONMENT)
        assert document is not None
        assert found == []
        return
    _, found = load_config(path, env=ENVIRONMENT)
    shown = "\n".join(f"{f.line}:{f.column} {f.code} {f.message} | {f.hint}" for f in found)
    assert sorted((f.code, f.line, f.column) for f in found) == expected(path), shown
