"""`litejoin query` answers over SQLite and the archive, in the asked form, and changes nothing."""

import json
from pathlib import Path

import pytest

from litejoin.cli.main import main
from tests.harness.archive import HOUR_MS, NOW_MS, Archive

CONFIG = """
storage: {{data_dir: {data_dir}, shard_count: 2, archive: {{enabled: true}}}}
retention: {{duration: 1h}}
sources:
  - {{name: push, type: http, topics: [orders], config: {{addr: "127.0.0.1:8080"}}}}
joins:
  - {{name: j, query: SELECT key FROM orders, sink: out}}
sinks:
  - {{name: out, type: stdout}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    archive = Archive(tmp_path / "data")
    archive.write([("a", '{"n": 1}', NOW_MS - 2 * HOUR_MS), ("c", '{"n": "x\\u001b"}', NOW_MS)])
    archive.compact(NOW_MS - HOUR_MS)
    archive.write([("b", '{"n": 2}', NOW_MS)])
    archive.close()
    path = tmp_path / "shop.yaml"
    path.write_text(CONFIG.format(data_dir=tmp_path / "data"))
    return str(path)


def test_rows_of_both_tiers_are_shown(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT key, payload ->> '$.n' AS n FROM orders ORDER BY key"
    assert main(["query", sql, "-c", config]) == 0
    # What a terminal would obey is escaped.
    assert capsys.readouterr().out.splitlines() == [
        "key  n", "---  ---------", "a    1", "b    2", 'c    "x\\u001b"',
    ]  # fmt: skip
    assert main(["query", sql, "-c", config, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[:2] == [{"key": "a", "n": 1}, {"key": "b", "n": 2}]
    assert main(["query", sql, "-c", config, "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["key,n", "a,1"]


def test_rows_as_of_a_time(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    then = str(NOW_MS // 1000 - 3600)
    sql = "SELECT key FROM orders"
    assert main(["query", sql, "-c", config, "--as-of", then, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"key": "a"}]


def test_no_rows_still_name_their_columns(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "SELECT key FROM orders WHERE key = 'z'", "-c", config]) == 0
    assert capsys.readouterr().out.splitlines() == ["key", "---"]


@pytest.mark.parametrize(
    "sql, code, said",
    [
        ("DELETE FROM orders", 2, "SELECT"),
        ("SELECT 1; SELECT 2", 2, "statement"),
        ("SELECT key FROM nobody", 1, "topics: orders"),
        ("SELECT load_extension('x') FROM orders", 2, "load_extension"),
        ("SELECT payload -> 'x' -> FROM orders", 2, "syntax"),
    ],
)
def test_what_is_no_query_over_topics_is_refused(
    config: str, capsys: pytest.CaptureFixture[str], sql: str, code: int, said: str
) -> None:
    assert main(["query", sql, "-c", config]) == code
    assert said in capsys.readouterr().err


def test_before_the_first_run_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(CONFIG.format(data_dir=tmp_path / "data"))
    assert main(["query", "SELECT key FROM orders", "-c", str(path)]) == 1
    assert "nothing was run yet" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
