"""No form of a plan shows a secret, wherever in the config it stands."""

import json
from pathlib import Path

import pytest
import yaml

from litejoin.cli.main import main
from litejoin.config.schema import marks, resolved, root_schema
from tests.unit.plan.secret_places import BASE, SECRET, SecretConfig, secret_configs

PLACES = list(secret_configs())
OTHER = "another-5e6d7c8b"

FORMS = (
    ["--format", "text", "--sql"],
    ["--format", "json"],
    ["--format", "mermaid"],
    ["--diff", "other.yaml"],
    ["--diff", "other.yaml", "--format", "json"],
)


def marked() -> int:
    """How many fields of the schema are marked secret, written once each."""
    return json.dumps(root_schema()).count('"secret": true')


def test_the_walk_finds_the_places() -> None:
    found = {place.pointer for place in PLACES}
    assert len(found) == len(PLACES) >= marked() > 10
    assert {
        "server.auth.tokens.0",
        "sources.0.(api).api.headers.X-Any",
        "sources.0.(api).api.url.(parameter)",
        "sources.0.(api).api.auth.(basic).password",
        "sources.0.(kafka).config.security.password",
        "sinks.0.(http).config.secret",
        "sinks.0.(postgres).config.dsn",
    } <= found
    assert marks(resolved(root_schema()["$defs"]["headers"]["additionalProperties"]))["secret"]


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code = main(["plan", "-c", "shop.yaml", *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out + captured.err


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.pointer)
def test_a_secret_is_never_shown_and_a_changed_one_is_a_change(
    place: SecretConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_dump(place.config)
    assert SECRET in text
    (tmp_path / "shop.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text(text.replace(SECRET, OTHER))
    for arguments in FORMS:
        out = shown(arguments, capsys)
        assert "shop" in out or "flowchart" in out
        assert SECRET not in out, arguments
        assert OTHER not in out, arguments
        if "--diff" in arguments:
            assert "no changes" not in out
            assert '"changes": []' not in out


QUERY = "SELECT key, '{0}' AS t FROM orders WHERE payload ->> '$.{0}' = key LIMIT 3"


@pytest.mark.parametrize("reference", ["${TOKEN}", "${file:token.txt}"])
def test_a_value_from_the_environment_is_not_shown_wherever_it_is_put(
    reference: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", SECRET)
    (tmp_path / "token.txt").write_text(SECRET)
    config = {
        **BASE,
        "storage": {"data_dir": f"data-{reference}"},
        "joins": [{"name": "j", "query": QUERY.format(reference), "sink": "out"}],
        "sinks": [
            {"name": "out", "type": "sqlite", "config": {"path": f"{reference}.db"}},
            {"name": "hook", "type": "http", "config": {"url": f"https://h/{reference}/x"}},
        ],
    }
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(BASE))
    for arguments in [*FORMS, ["--diff-data-dir"]]:
        assert SECRET not in shown(arguments, capsys), arguments
