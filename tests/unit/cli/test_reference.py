"""`litejoin schema` and `litejoin explain`."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from litejoin.cli.main import main
from litejoin.config.codes import CODES
from litejoin.config.schema import resolved, root_schema
from litejoin.errors import error_classes

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas"


def test_schema_is_the_one_that_validates(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"sources", "joins", "windows", "sinks"} <= schema["properties"].keys()


def test_the_schema_names_nothing_twice() -> None:
    """JSON keeps the last of two members of one name: a definition would be lost without a word."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
        return dict(pairs)

    for path in SCHEMAS.glob("*.json"):
        assert json.loads(path.read_text(), object_pairs_hook=once)


def test_the_schema_is_sound_and_describes_every_key() -> None:
    schema = root_schema()
    Draft202012Validator.check_schema(schema)
    bare = [
        f"{name}.{key}"
        for name, part in {"": schema, **schema["$defs"]}.items()
        for key, about in part.get("properties", {}).items()
        if not resolved(about).get("description")
    ]
    assert bare == []


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code.lower()]) == 0
    out = capsys.readouterr().out
    rule = CODES[code]
    assert out.startswith(f"{code} {rule.level}: {rule.title}\n")
    assert "\nExample:\n" in out
    assert "\nFix: " in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("code", error_classes())
def test_every_error_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{code} error: ")
    assert "again" in out
    assert max(map(len, out.splitlines())) <= 100


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CODES)


def test_an_unknown_code_suggests_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "LJ2411"]) == 2
    err = capsys.readouterr().err
    assert "LJ241" in err
    assert err.count("\n") == 1
