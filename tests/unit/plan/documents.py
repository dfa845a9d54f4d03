"""Configs as text -> documents and plans, for the tests of the compiler."""

from textwrap import dedent

from litejoin.config import Diagnostic, Document, load_config
from litejoin.plan.compile import compile_plan
from litejoin.plan.nodes import JoinPlan, Plan

SOURCES = """\
sources:
  - {name: push, type: http, topics: [orders, users], config: {addr: "127.0.0.1:8080"}}
sinks:
  - {name: out, type: stdout}
"""


def document_of(text: str, **env: str) -> Document:
    """The document of a config without errors in its structure."""
    document, findings = load_config(dedent(text), env=env, file="shop.yaml")
    assert document is not None
    assert [f for f in findings if f.level == "error"] == []
    return document


def plan_of(text: str, **env: str) -> Plan:
    """The plan of a config without errors."""
    plan, findings = compile_plan(document_of(text, **env))
    assert plan is not None, findings
    return plan


def findings_of(text: str, **env: str) -> list[Diagnostic]:
    """What the compiler itself finds in a config."""
    return compile_plan(document_of(text, **env))[1]


def join_of(query: str, **keys: str) -> JoinPlan:
    """The plan of one join over orders and users."""
    more = "".join(f"\n    {key}: {value}" for key, value in keys.items())
    (join,) = plan_of(
        SOURCES + f"joins:\n  - name: j\n    sink: out{more}\n    query: {query}"
    ).joins
    return join
