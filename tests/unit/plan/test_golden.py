"""The plans of the conformance configs, reviewed by hand and kept as files in `golden/`.

`make goldens` writes them anew; read the diff as a user who meets the page for the first time.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from litejoin.config import load_config
from litejoin.config.diagnostics import json_object
from litejoin.plan.compile import compile_plan
from litejoin.plan.explain import explain
from litejoin.plan.layout import PAGE_WIDTH

HERE = Path(__file__).resolve().parent
CONFORMANCE = HERE.parents[1] / "configs/conformance"
EVERYTHING = HERE / "golden/everything.yaml"
"""What the conformance configs lack: shared budgets, for_each, a full join, late rows, a bucket."""
FILES = [*sorted(CONFORMANCE.glob("*.yaml")), EVERYTHING]
SUFFIXES = {"text": "txt", "json": "json", "mermaid": "mmd"}
ENVIRONMENT = {
    "OWM_KEY": "owm-secret-1",
    "API_TOKEN": "api-secret-2",
    "CRM_SECRET": "crm-secret-3",
    "HOOK": "aG9vay1zZWNyZXQtNA==",
    "BUCKET_KEY": "bucket-secret-5",
}


def explained(path: Path, form: str) -> str:
    document, findings = load_config(path.read_bytes(), env=ENVIRONMENT, file=path.name)
    assert document is not None
    plan, more = compile_plan(document)
    assert plan is not None, more
    # The hash changes with every default that the schema gains; nobody would review that.
    plan = replace(plan, config_hash="0123456789ab")
    warnings = [json_object(finding) for finding in sorted([*findings, *more])]
    return explain(plan, form, warnings, document.secrets)


def test_there_are_eight() -> None:
    assert len(FILES) == 8 + 1


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_plan_is_as_reviewed(path: Path, form: str) -> None:
    golden = HERE / "golden" / f"{path.stem}.{SUFFIXES[form]}"
    shown = explained(path, form)
    if os.environ.get("LITEJOIN_WRITE_GOLDEN"):
        golden.write_text(shown)
    assert shown == golden.read_text()
    for secret in ENVIRONMENT.values():
        assert secret not in shown
    if form == "text":
        assert max(map(len, shown.splitlines())) <= PAGE_WIDTH
    if form == "json":
        assert json.loads(shown)["name"] == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_delta_query_scans_a_topic(path: Path) -> None:
    for join in json.loads(explained(path, "json"))["joins"]:
        plans = [join["query_plan"], *(each["query_plan"] for each in join["references"])]
        if join["strategy"] != "full":
            assert not any(":scan" in line for plan in plans for line in plan)
