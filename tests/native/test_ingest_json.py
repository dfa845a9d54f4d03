"""The shared JSON scanner refuses what strict JSON refuses, at the same byte as its twin."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin._ext import ingest
from tests.reference import json_scan as twin

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

GOOD = [
    b"0",
    b"-0",
    b"1",
    b"-1.5e+10",
    b"18446744073709551616",
    b"1e400",
    b"0.1E-2",
    b'""',
    b'"a"',
    b"true",
    b"false",
    b"null",
    b"[]",
    b"{}",
    b" [ 1 , 2 ] \r\n\t",
    b'{"a":1,"a":2}',
    b'{"":{"":[{}]}}',
    rb'"\"\\\/\b\f\n\r\t\u0000\u00e9\ud83d\ude00"',
    '"é€😀\x7f"'.encode(),
    b'"' + b"x" * 100 + b'"',
]

BAD = {
    b"": (twin.END, 0),
    b"  ": (twin.END, 2),
    b"[": (twin.END, 1),
    b"[1": (twin.END, 2),
    b"[1,": (twin.END, 3),
    b"[1,]": (twin.CHAR, 3),
    b"[1 2]": (twin.CHAR, 3),
    b"{": (twin.END, 1),
    b"{1:2}": (twin.CHAR, 1),
    b'{"a"': (twin.END, 4),
    b'{"a" 1}': (twin.CHAR, 5),
    b'{"a":1,}': (twin.CHAR, 7),
    b"{,}": (twin.CHAR, 1),
    b"01": (twin.NUMBER, 0),
    b"-": (twin.NUMBER, 0),
    b"1.": (twin.NUMBER, 0),
    b"1e": (twin.NUMBER, 0),
    b".5": (twin.CHAR, 0),
    b"+1": (twin.CHAR, 0),
    b"NaN": (twin.CHAR, 0),
    b"Infinity": (twin.CHAR, 0),
    b"-Infinity": (twin.NUMBER, 0),
    b"nul": (twin.CHAR, 0),
    b"True": (twin.CHAR, 0),
    b"'a'": (twin.CHAR, 0),
    b'"': (twin.END, 1),
    b'"a': (twin.END, 2),
    b'"\\': (twin.END, 2),
    b'"\\x"': (twin.ESCAPE, 1),
    b'"\\u12"': (twin.ESCAPE, 1),
    b'"\n"': (twin.CONTROL, 1),
    b'"\0"': (twin.CONTROL, 1),
    rb'"\ud800"': (twin.SURROGATE, 1),
    rb'"\udc00\ud800"': (twin.SURROGATE, 1),
    rb'"\ud800\u0041"': (twin.SURROGATE, 1),
    b'"\xff"': (twin.UTF8, 1),
    b'"\xc0\x80"': (twin.UTF8, 1),
    b'"\xed\xa0\x80"': (twin.UTF8, 1),
    b'"\xf4\x90\x80\x80"': (twin.UTF8, 1),
    b'"\xe2\x82"': (twin.UTF8, 1),
    b"1 2": (twin.TRAILING, 2),
    b"{}x": (twin.TRAILING, 2),
    b"\xef\xbb\xbf{}": (twin.CHAR, 0),
    b"[]\0": (twin.TRAILING, 2),
    b"\x00": (twin.CHAR, 0),
    b"/*c*/1": (twin.CHAR, 0),
}


@pytest.mark.parametrize("text", GOOD)
def test_valid_json_is_accepted(text: bytes) -> None:
    assert ingest.check_json(text) is None
    assert twin.check_json(text) is None


@pytest.mark.parametrize(("text", "fault"), BAD.items())
def test_invalid_json_is_refused_at_the_right_byte(text: bytes, fault: tuple[int, int]) -> None:
    assert ingest.check_json(text) == fault
    assert twin.check_json(text) == fault
    assert ingest.JSON_REASONS[fault[0]]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_limited_without_recursion(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    for depth in (1, 63, 64):
        assert ingest.check_json(opening * depth + b"1" + closing * depth) is None
    assert ingest.check_json(opening * 64 + b"1" + closing * 64, 63) == (
        twin.DEPTH,
        63 * len(opening),
    )
    assert ingest.check_json(opening * 1_000_000, 4_000_000) == (twin.DEPTH, 1024 * len(opening))
    mixed = b'[{"a":' * 500 + b"1" + b"}]" * 500
    assert ingest.check_json(mixed, 1000) is None
    assert ingest.check_json(mixed[:-2] + b"]}", 1000) is not None
    assert ingest.check_json(b"1", 0) is None
    assert ingest.check_json(b"[]", 0) == (twin.DEPTH, 0)


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_what_python_writes_is_accepted(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "surrogatepass"
    )
    assert ingest.check_json(text) == twin.check_json(text)
    try:
        text.decode()
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeError:
        return  # a lone surrogate: the twin is the judge
    assert ingest.check_json(text) is None


@given(JSON_VALUES, st.data())
def test_mutated_json_gets_the_twins_verdict(value: Any, data: st.DataObject) -> None:
    text = bytearray(
        json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode(errors="replace")
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 2))
        text[at : at + cut] = data.draw(
            st.binary(max_size=2)
            | st.sampled_from([b'"', b"\\", b"\\ud83d", b",", b"}", b"\xed", b"-", b"0"])
        )
    depth = data.draw(st.integers(0, 5))
    assert ingest.check_json(bytes(text), depth) == twin.check_json(bytes(text), depth)


@given(st.binary(max_size=40))
def test_garbage_gets_the_twins_verdict(text: bytes) -> None:
    assert ingest.check_json(text) == twin.check_json(text)
    assert ingest.check_json(b'"' + text + b'"') == twin.check_json(b'"' + text + b'"')


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_unescape_gives_the_text_back(text: str, ascii_only: bool) -> None:
    assert ingest.unescape(json.dumps(text, ensure_ascii=ascii_only).encode()) == text.encode()


@pytest.mark.parametrize("literal", [b"", b"1", b'"', b'"a"b', b'"\\x"'])
def test_unescape_refuses_what_is_not_a_string(literal: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON string"):
        ingest.unescape(literal)
