"""`${..}`: expanded once, in values only, with the place of what is wrong; secrets stay secret."""

from pathlib import Path

import pytest

from litejoin.config import Diagnostic, Document, load_config
from litejoin.plan.compile import compile_plan
from litejoin.plan.nodes import Secret

BASE = """\
sources:
  - {name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}
"""
SINK = "sinks: [{name: out, type: stdout}]\n"


def load(
    text: str, env: dict[str, str] | None = None, *, no_env_check: bool = False
) -> tuple[Document, list[Diagnostic]]:
    document, findings = load_config(text + BASE, env=env or {}, no_env_check=no_env_check)
    assert document is not None
    return document, findings


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${A}", "x"),
        ("pre-${A}-post", "pre-x-post"),
        ("${A}${A}", "xx"),
        ("${UNSET:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}e", "e"),
        ("${UNSET:-}e", "e"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("$${A}", "${A}"),
        ("$A $$ $. $[0]", "$A $$ $. $[0]"),
        ("${NESTED}", "${A}"),
    ],
)
def test_forms(written: str, value: str) -> None:
    env = {"A": "x", "EMPTY": "", "NESTED": "${A}"}
    document, findings = load(f"storage: {{data_dir: '{written}'}}\n", env)
    assert findings == []
    assert document.get("/storage/data_dir") == value


def test_a_variable_can_be_a_number_quoted_or_not() -> None:
    for written in ("${N}", "'${N}'"):
        document, findings = load(f"storage:\n  shard_count: {written}\n", {"N": "4"})
        assert findings == []
        assert document.get("/storage/shard_count") == 4


def test_a_variable_cannot_add_keys_or_yaml() -> None:
    hostile = "a\nserver: {addr: ':1'}  # ${A}"
    document, findings = load("storage: {data_dir: '${A}'}\n", {"A": hostile})
    assert findings == []
    assert document.get("/storage/data_dir") == hostile
    assert document.get("/server/addr") == "127.0.0.1:9100"


def test_keys_are_not_expanded() -> None:
    _, findings = load("'${A}': 1\n", {"A": "name"})
    assert [(f.code, f.line, f.column) for f in findings] == [("LJ103", 1, 1)]


def test_what_came_from_the_environment_is_secret_and_what_is_written_is_not() -> None:
    document, _ = load("storage: {data_dir: '/x/${A}'}\n", {"A": "hunter22"})
    value = document.get("/storage/data_dir")
    assert isinstance(value, Secret)
    assert "hunter22" not in repr(document.value)
    assert "hunter22" in document.secrets
    assert document.shown("/storage/data_dir") == "/x/${A}"
    plain, _ = load("storage: {data_dir: '${A:-d}'}\n")
    assert not isinstance(plain.get("/storage/data_dir"), Secret)
    assert plain.secrets == frozenset()


def test_a_bad_value_from_a_variable_is_never_shown() -> None:
    for text in (
        "server: {addr: '${A}'}\n",
        "storage: {shard_count: '${A}'}\n",
        "retention: {duration: '${A}'}\n",
        "delivery: {guarantee: '${A}'}\n",
        "name: '${A}'\n",
    ):
        _, findings = load(text, {"A": "hunter22 !"})
        assert [f.level for f in findings] == ["error"]
        assert not any("hunter22" in f.message + f.hint for f in findings), findings


def test_the_finding_is_at_the_variable_inside_of_a_block() -> None:
    text = "joins:\n  - name: j\n    query: |\n      SELECT a\n      FROM ${T} t\n    sink: s\n"
    _, findings = load(text)
    unset = [f for f in findings if f.code == "LJ130"]
    assert [(f.line, f.column, f.length) for f in unset] == [(5, 12, 4)]


def test_offsets_behind_a_variable_point_to_the_text_as_written() -> None:
    text = "joins:\n  - name: j\n    query: SELECT '${A}', x_y FROM t\n    sink: s\n"
    document, _ = load(text, {"A": "a much longer text than that"})
    query = document.get("/joins/0/query")
    place = document.place_in("/joins/0/query", query.index("x_y"))
    assert (place.line, place.column) == (3, text.splitlines()[2].index("x_y") + 1)
    inside = document.place_in("/joins/0/query", query.index("longer"))
    assert (inside.line, inside.column) == (3, text.splitlines()[2].index("${A}") + 1)


def test_without_the_check_a_placeholder_stands_for_every_kind_of_value() -> None:
    text = """\
name: ${A}
storage: {shard_count: "${A}", data_dir: "${A}/x"}
retention: {duration: "${A}"}
delivery: {guarantee: "${A}", dlq: {backoff_multiplier: "${A}"}}
server: {addr: "${A}", limits: {max_body_bytes: "${A}"}, cors_origins: ["${A}"]}
replication: {replica_url: "${A}", restore_on_boot: "${A}"}
joins: ["${A}", {name: j, query: "SELECT 1", sink: "${A}"}]
sinks: [{type: "${A}", name: s, config: {url: "${A}"}}, {name: k, type: kafka, config: "${A}"}]
"""
    document, findings = load(text, no_env_check=True)
    assert [f.code for f in findings if f.level == "error"] == []
    assert document.get("/storage/data_dir") == "placeholder/x"
    _, findings = load(text)
    assert {f.code for f in findings if f.level == "error"} == {"LJ130"}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT key FROM orders WHERE payload ->> '$.total' > ${A}",
        "SELECT key, '${A}' AS country FROM orders LIMIT ${A}",
        "SELECT key, payload ->> '$.${A}' AS \"${A}\" FROM orders WHERE key LIKE 'x-${A}%'",
        "SELECT p.key FROM ${A} AS p",
        "SELECT count(*) AS ${A} FROM orders_${A}",
    ],
)
def test_without_the_check_a_placeholder_stands_for_every_part_of_a_query(query: str) -> None:
    block = f"joins:\n  - name: j\n    sink: out\n    query: |\n      {query}\n"
    document, findings = load(block + SINK, no_env_check=True)
    assert [finding for finding in findings if finding.level == "error"] == []
    plan, more = compile_plan(document)
    assert [finding.message for finding in more if finding.level == "error"] == []
    assert plan is not None


def test_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter22\n")
    document, findings = load(f"storage: {{data_dir: '${{file:{secret}}}'}}\n")
    assert findings == []
    assert document.get("/storage/data_dir") == "hunter22"
    assert document.secrets == {"hunter22"}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"x" * 70_000])
def test_files_that_are_no_secrets(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    _, findings = load(f"storage: {{data_dir: '${{file:{path}}}'}}\n")
    assert [f.code for f in findings] == ["LJ132"]


def test_a_directory_or_a_missing_file_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        _, findings = load(f"storage: {{data_dir: '${{file:{path}}}'}}\n")
        assert [f.code for f in findings] == ["LJ132"]
        assert "cannot read" in findings[0].message


@pytest.mark.parametrize(
    "api",
    [
        "url: 'https://bob:hunter22@example.com:x/'",
        "url: 'ftp://example.com/?api_key=hunter22'",
        'headers: {Authorization: "hunter22\\n"}',
        "auth: {type: bearer, token: [hunter22]}",
    ],
)
def test_a_bad_value_with_a_secret_in_clear_is_not_quoted(api: str) -> None:
    start = "sources: [{name: s, type: api, topic: t, api: {interval: 1s, key_path: id, "
    _, findings = load_config(start + api + "}}]\n", env={})
    assert any(finding.level == "error" for finding in findings)
    assert not any("hunter22" in f.message + f.hint for f in findings), findings
