"""The published schema of `plan --format json`, held against plans of every kind."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from litejoin.cli.main import main
from litejoin.config.schema import PLAN_FILE, schema_text
from litejoin.plan.explain import explain
from tests.unit.plan.documents import plan_of
from tests.unit.plan.plans import ORDERS_API, shop_plan
from tests.unit.plan.test_golden import FILES, explained

SCHEMA = json.loads(schema_text(PLAN_FILE))
VALIDATOR = Draft202012Validator(SCHEMA)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of the schema that describes an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_field_is_described_required_and_no_other_is_allowed() -> None:
    for part in objects(SCHEMA):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
        for name, field in part["properties"].items():
            assert {"description", "$ref", "const", "enum", "type"} & field.keys(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_plans_of_the_conformance_configs_fit(path: Path) -> None:
    VALIDATOR.validate(json.loads(explained(path, "json")))


def test_a_plan_with_one_of_everything_fits_and_uses_every_field() -> None:
    many = replace(ORDERS_API, name="lines", parent_topic="orders", rate_group="shop")
    plan = replace(shop_plan(), sources=(*shop_plan().sources, many))
    finding = {
        "file": "shop.yaml", "line": 1, "column": 1, "code": "LJ260", "level": "warning",
        "message": "text", "hint": "", "pointer": "/server",
    }  # fmt: skip
    tree = json.loads(explain(plan, "json", [finding]))
    VALIDATOR.validate(tree)
    assert all(tree[name] for name in SCHEMA["properties"])


def test_the_plan_of_a_query_that_is_read_in_full_fits() -> None:
    plan = plan_of("""
        sources: [{name: s, type: http, topics: [t], config: {addr: "127.0.0.1:1"}}]
        joins: [{name: j, query: SELECT key FROM t LIMIT 3, sink: out}]
        sinks: [{name: out, type: stdout}]
        """)
    tree = json.loads(explain(plan, "json"))
    VALIDATOR.validate(tree)
    (reason,) = tree["joins"][0]["reasons"]
    assert (reason["line"], reason["column"]) == (3, 44)
    assert reason["rewrite"].startswith("drop LIMIT")


def test_a_field_too_many_does_not_fit() -> None:
    tree = json.loads(explain(shop_plan(), "json"))
    tree["joins"][0]["surprise"] = 1
    assert not VALIDATOR.is_valid(tree)


def test_the_schema_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--plan"]) == 0
    assert capsys.readouterr().out == schema_text(PLAN_FILE)
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()
