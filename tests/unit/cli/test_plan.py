"""`litejoin plan`: forms, exit codes, overrides, and that it leaves no trace."""

import json
import os
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from litejoin.cli.init import TEMPLATES, template_text
from litejoin.cli.main import main
from litejoin.cli.plan import FORMATS
from litejoin.plan.explain import FORMS

CONFORMANCE = sorted((Path(__file__).resolve().parents[2] / "configs/conformance").glob("*.yaml"))

CONFIG = """\
sources:
  - name: api
    type: api
    topic: orders
    api: {url: "https://h/orders?token=${TOKEN}", interval: 30s, key_path: id}
joins:
  - {name: j, query: SELECT key FROM orders, sink: out}
sinks:
  - {name: out, type: stdout}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with shop.yaml in it, which is the working directory."""
    (tmp_path / "shop.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("LITEJOIN_") or name == "TOKEN":
            monkeypatch.delenv(name)
    return tmp_path


def test_every_form_can_be_asked_for() -> None:
    assert set(FORMATS) == set(FORMS)


def test_prints_the_plan_as_text(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOKEN", "very-secret")
    assert main(["plan", "-c", "shop.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("shop   config ")
    assert "  api   api   orders   every 30s, 1 page  ->  2 requests/min" in captured.out
    assert "very-secret" not in captured.out


@pytest.mark.parametrize("path", CONFORMANCE, ids=lambda path: path.stem)
@pytest.mark.parametrize("form", ["text", "json", "mermaid"])
def test_starts_nothing_and_writes_nothing(
    shop: Path, path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(shop.rglob("*"))
    assert main(["plan", "-c", str(path), "--no-env-check", "--format", form]) == 0
    out = capsys.readouterr().out
    assert sorted(shop.rglob("*")) == before
    if form == "json":
        assert json.loads(out)["name"] == path.stem


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_have_a_plan_without_a_warning(
    shop: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "new.yaml").write_text(template_text(name))
    assert main(["plan", "-c", "new.yaml", "--format", "json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["name"], tree["warnings"], tree["unsupported"]) == (name, [], [])
    assert {join["strategy"] for join in tree["joins"]} <= {"native", "delta"}


def test_an_unset_variable_is_refused_unless_told_otherwise(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-c", "shop.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "shop.yaml:5:" in captured.err
    assert "LJ130 error" in captured.err
    assert main(["plan", "-c", "shop.yaml", "--no-env-check"]) == 0


def test_an_sql_error_is_refused_with_its_place(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "shop.yaml").write_text(CONFIG.replace("SELECT key", "SELECT nope"))
    assert main(["plan", "-c", "shop.yaml", "--no-env-check"]) == 2
    assert "shop.yaml:7:29: LJ212 error: no such column: nope" in capsys.readouterr().err


def test_variables_can_come_from_a_file_and_the_environment_wins(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "shop.yaml").write_text(CONFIG.replace("name: api", "name: ${NAME}"))
    (shop / ".env").write_text("# names\n\nexport NAME='from_file'\nTOKEN=x=y\n")
    assert main(["plan", "-c", "shop.yaml", "--env-file", ".env"]) == 0
    assert "  from_file   api" in capsys.readouterr().out
    monkeypatch.setenv("NAME", "from_env")
    assert main(["plan", "-c", "shop.yaml", "--env-file", ".env"]) == 0
    assert "  from_env   api" in capsys.readouterr().out


def test_a_bad_env_file_names_the_line_but_does_not_show_it(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / ".env").write_text("A=1\nsecret value\n")
    assert main(["plan", "-c", "shop.yaml", "--env-file", ".env"]) == 2
    err = capsys.readouterr().err
    assert ".env:2" in err
    assert "secret value" not in err


def test_values_can_be_replaced(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", "-c", "shop.yaml", "--no-env-check", "--format", "json"]
    assert main([*args, "--set", "storage.shard_count=3", "--set", "name=other"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["name"], tree["topics"][0]["shards"]) == ("other", 3)


def test_a_dash_is_stdin(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(CONFIG.encode())))
    assert main(["plan", "-c", "-", "--no-env-check"]) == 0
    assert "  api   api   orders" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        ["plan"],
        ["plan", "-c", "missing.yaml"],
        ["plan", "-c", "."],
        ["plan", "-c", "shop.yaml", "--format", "xml"],
        ["plan", "-c", "shop.yaml", "--env-file", "missing.env"],
        ["plan", "-c", "shop.yaml", "extra"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_2(
    shop: Path, args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
