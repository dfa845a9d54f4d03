"""A plan is a value: the same config gives the same one, and its hash says what it means."""

import dataclasses

import pytest

from litejoin.plan.compile import compile_plan
from litejoin.plan.nodes import Plan
from tests.unit.plan.documents import SOURCES, document_of, plan_of

JOIN = "joins: [{name: j, query: SELECT key FROM orders, sink: out}]\n"


def plan_hash(text: str, **env: str) -> str:
    return plan_of(text, **env).config_hash


def test_the_hash_is_of_what_the_config_means() -> None:
    base = plan_hash(SOURCES + JOIN)
    assert len(base) == 12
    assert base == plan_hash("# a comment\n" + JOIN + SOURCES)
    assert base == plan_hash(SOURCES + JOIN + "storage: {shard_count: 8}\n")
    assert base != plan_hash(SOURCES + JOIN + "storage: {shard_count: 4}\n")
    assert base != plan_hash(SOURCES + JOIN + "name: other\n")


def test_the_hash_changes_with_a_secret() -> None:
    text = SOURCES + JOIN + "server: {auth: {tokens: ['${T}']}}\n"
    assert plan_hash(text, T="token-one") != plan_hash(text, T="token-two")


def test_a_plan_is_the_same_every_time() -> None:
    document = document_of(SOURCES + JOIN)
    first, second = compile_plan(document)[0], compile_plan(document)[0]
    assert isinstance(first, Plan)
    assert first == second
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "other"  # type: ignore[misc]
