"""`litejoin plan --diff` and `--diff-data-dir`: forms, exit codes, and that nothing is touched."""

import json
import os
from pathlib import Path

import pytest

from litejoin.cli.main import main
from litejoin.config.schema import PLAN_DIFF_FILE, schema_text

CONFIG = """\
sources:
  - {name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}
joins:
  - {name: j, query: SELECT key FROM orders, sink: out}
sinks:
  - {name: out, type: http, config: {url: "http://h/x", headers: {A: "Bearer ${TOKEN:-abc}"}}}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with shop.yaml, and old.yaml with another query, as the working directory."""
    (tmp_path / "shop.yaml").write_text(CONFIG)
    (tmp_path / "old.yaml").write_text(CONFIG.replace("FROM orders", "FROM orders WHERE 1"))
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("LITEJOIN_") or name == "TOKEN":
            monkeypatch.delenv(name)
    return tmp_path


def plan(*arguments: str) -> int:
    return main(["plan", "-c", "shop.yaml", *arguments])


def test_a_change_is_exit_2_only_where_that_is_asked_for(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan("--diff", "old.yaml") == 0
    assert plan("--diff", "old.yaml", "--detailed-exitcode") == 2
    assert (
        "query SELECT key FROM orders WHERE 1 -> SELECT key FROM orders\n"
        in capsys.readouterr().out
    )


def test_no_change_is_exit_0_and_says_so(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "copy.yaml").write_text(f"# a copy\n{CONFIG}")
    assert plan("--diff", "copy.yaml", "--detailed-exitcode") == 0
    out = capsys.readouterr().out
    assert out.endswith("\nno changes\n")


def test_a_pipeline_that_no_file_names_is_the_same_one(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "copy.yaml").write_text(f"name: other\n{CONFIG}")
    assert plan("--diff", "copy.yaml", "--detailed-exitcode") == 2
    assert "  ~ pipeline shop\n      name other -> shop\n" in capsys.readouterr().out


def test_overrides_are_about_the_new_config_only(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan("--diff", "shop.yaml", "--set", "storage.shard_count=4", "--format", "json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert [change["part"] for change in tree["changes"]] == ["storage"]
    assert tree["refused"][0]["message"] == "data_dir data was made with shard_count 8, not 4"


def test_secrets_of_either_side_stay_hidden(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "old.yaml").write_text(CONFIG.replace("${TOKEN:-abc}", "in-clear-text"))
    monkeypatch.setenv("TOKEN", "from-the-env")
    for form in ("text", "json"):
        assert plan("--diff", "old.yaml", "--format", form) == 0
        out = capsys.readouterr().out
        assert "out" in out
        assert "in-clear-text" not in out
        assert "from-the-env" not in out


def test_errors_of_either_side_are_told_and_1_when_2_means_changes(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "bad.yaml").write_text(CONFIG.replace("SELECT key", "SELECT nope"))
    assert plan("--diff", "bad.yaml") == 2
    assert plan("--diff", "bad.yaml", "--detailed-exitcode") == 1
    assert "bad.yaml:4:29: LJ212 error" in capsys.readouterr().err
    assert plan("--diff", "missing.yaml", "--detailed-exitcode") == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--detailed-exitcode"],
        ["--diff", "old.yaml", "--diff-data-dir"],
        ["--diff", "old.yaml", "--format", "mermaid"],
        ["--diff", "-", "-c", "-"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(
    shop: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(*arguments) == (1 if "--detailed-exitcode" in arguments else 2)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_data_dir_that_is_not_there_is_not_made(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(shop.rglob("*"))
    assert plan("--diff-data-dir", "--detailed-exitcode") == 2
    assert "shards    create 8 shards in data\n" in capsys.readouterr().out
    assert sorted(shop.rglob("*")) == before


def test_a_damaged_data_dir_is_refused_as_run_does(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "data").mkdir()
    (shop / "data/manifest.json").write_text("{")
    assert plan("--diff-data-dir", "--detailed-exitcode") == 2
    out = capsys.readouterr().out
    assert "Refused by run\n  data_dir data has an unreadable manifest.json" in out
    assert out.endswith("no changes; run would refuse for 1 reason\n")


def test_the_schema_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--plan-diff"]) == 0
    assert capsys.readouterr().out == schema_text(PLAN_DIFF_FILE)
    assert main(["schema", "--plan-diff", "--plan"]) == 2
