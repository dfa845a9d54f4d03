"""Configs of the original LiteJoin's language pass, and so do the templates of `init`."""

from pathlib import Path

import pytest

from litejoin.config import load_config
from litejoin.plan.compile import compile_plan

HERE = Path(__file__).resolve()
REPOSITORY = HERE.parents[3]
FILES = sorted(
    [
        *(REPOSITORY / "tests/configs/conformance").glob("*.yaml"),
        # The files the copies were taken from, where they are at hand.
        *(REPOSITORY.parent / "shared/conformance").glob("*.yaml"),
        *(REPOSITORY / "litejoin/cli/templates").glob("*.yaml"),
    ]
)
ENVIRONMENT = {"OWM_KEY": "0123456789abcdef", "API_TOKEN": "fedcba9876543210"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_has_no_errors_and_keeps_its_secrets(path: Path) -> None:
    document, findings = load_config(path, env=ENVIRONMENT)
    assert document is not None
    plan, more = compile_plan(document)
    assert plan is not None
    findings = [*findings, *more]
    assert [finding for finding in findings if finding.level == "error"] == []
    assert document.complete
    shown = repr(document.value)
    assert not any(value in shown for value in ENVIRONMENT.values())


def test_all_eight_are_here() -> None:
    assert len([path for path in FILES if "tests/configs" in str(path)]) == 8
