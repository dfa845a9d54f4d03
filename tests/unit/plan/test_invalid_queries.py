"""Every rule about queries finds its example: the SQL files of tests/configs/invalid."""

import re
from pathlib import Path

import pytest

from litejoin.config import load_config
from litejoin.config.codes import CODES
from litejoin.plan.compile import compile_plan

FOLDER = Path(__file__).resolve().parents[3] / "tests/configs/invalid"
FILES = sorted(FOLDER.glob("*-sql-*.yaml"))
EXPECT = re.compile(r"^# expect (LJ\d+) (\d+):(\d+)$", re.MULTILINE)
QUERY_CODES = {code for code in CODES if "LJ210" <= code <= "LJ259"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_exactly_the_expected_findings(path: Path) -> None:
    document, found = load_config(path, env={})
    assert document is not None
    assert found == []
    plan, found = compile_plan(document)
    shown = "\n".join(f"{f.line}:{f.column} {f.code} {f.message} | {f.hint}" for f in found)
    wanted = [
        (code, int(line), int(column)) for code, line, column in EXPECT.findall(path.read_text())
    ]
    assert [(f.code, f.line, f.column) for f in found] == wanted, shown
    assert (plan is None) == any(f.level == "error" for f in found)


def test_every_rule_about_queries_has_an_example() -> None:
    assert {path.name[:5] for path in FILES} == QUERY_CODES
