"""Texts that JSON functions take for paths, and those that they do not."""

import pytest

from litejoin.plan.paths import odd_paths

GOOD = [
    "json_extract(payload, '$.a', '$[0]', '$[#-1]', '$.\"a b\".c')",
    "json_extract(payload, 'a' || key)",
    "json_extract(payload, key)",
    "json_extract('no path', '$')",
    "json_set(payload, '$.a', 'no path', '$.b', '.no path')",
    "jsonb_remove(payload, '$.a')",
    "json_array_length(payload, '$.a')",
    "json_object('.a', 1)",
    "json_extract(payload, json_extract('{}', '$') || '.a')",
    "payload -> 'a' ->> 'b c'",
    "payload ->> '$.a.b'",
    "payload ->> 0",
    "payload ->> '[0]'",
    "'.a' || payload ->> 'it''s'",
]

BAD = {
    "json_extract(payload, 'a')": ["bad-path 'a'"],
    "json_extract(payload, '$.a', '.b')": ["bad-path '.b'"],
    "JSON_EXTRACT ( payload , '$..a' )": ["bad-path '$..a'"],
    "jsonb_extract(payload, '$a')": ["bad-path '$a'"],
    "json_set(payload, 'a', 'b', '$.c', 'd', 'e', 'f')": ["bad-path 'a'", "bad-path 'e'"],
    "json_type(payload, '')": ["bad-path ''"],
    "json_extract(json_remove(payload, 'x'), 'y')": ["bad-path 'y'", "bad-path 'x'"],
    "payload ->> '$a'": ["bad-path '$a'"],
    "payload -> ''": ["bad-path ''"],
    "payload ->> '.a' || payload -> '.b'": ["member-path '.a'", "member-path '.b'"],
    "json_extract(payload, 'it''s')": ["bad-path 'it''s'"],
}


@pytest.mark.parametrize("expression", GOOD)
def test_paths_that_are_none_or_right_are_let_be(expression: str) -> None:
    assert list(odd_paths(f"SELECT {expression} FROM t")) == []


@pytest.mark.parametrize("expression", BAD)
def test_each_odd_path_is_found_at_its_place(expression: str) -> None:
    query = f"SELECT {expression} FROM t"
    found = [f"{f.kind} {query[f.start : f.end]}" for f in odd_paths(query)]
    assert found == BAD[expression]


def test_the_hint_is_a_path() -> None:
    (finding,) = odd_paths("SELECT json_extract(payload, '.a.b') FROM t")
    assert finding.hint == "a path begins with $: '$.a.b'"
