"""gjson paths: the documented examples, native == twin == another implementation, refusals."""

import json

import pygjson
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from litejoin._ext import gjson
from litejoin.errors import JsonError, PathError
from tests.reference import diff as diff_twin
from tests.reference import gjson as twin

PEOPLE = b"""{
  "name": {"first": "Tom", "last": "Anderson"}, "age": 37, "children": ["Sara", "Alex", "Jack"],
  "fav.movie": "Deer Hunter", "@type": "person", "friends": [
    {"first": "Dale", "last": "Murphy", "age": 44, "ok": true, "nets": ["ig", "fb", "tw"]},
    {"first": "Roger", "last": "Craig", "age": 68, "ok": false, "nets": ["fb", "tw"]},
    {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]}]}"""

EXAMPLES = {
    "name.last": '"Anderson"', "age": "37", "children.#": "3", "children.1": '"Alex"',
    "child*.2": '"Jack"', "c?ildren.0": '"Sara"', r"fav\.movie": '"Deer Hunter"',
    "friends.#.first": '["Dale","Roger","Jane"]', "friends.1.last": '"Craig"', "friends.#": "3",
    'friends.#(last=="Murphy").first': '"Dale"',
    'friends.#(last=Murphy)#.first': '["Dale","Jane"]',
    "friends.#(age>45)#.last": '["Craig","Murphy"]', 'friends.#(first%"D*").last': '"Murphy"',
    'friends.#(first!%"D*").last': '"Craig"',
    'friends.#(nets.#(=="fb"))#.first': '["Dale","Roger"]',
    "friends.#(ok==true)#.first": '["Dale"]', "friends.#(ok<true)#.first": '["Roger"]',
    "friends.#(ok)#.age": "[44,68]", "friends.#.nets.#": "[3,2,2]", "friends.#.first|0": '"Dale"',
    'friends.#(last=="Murphy")#|1.first': '"Jane"', 'friends.#(last=="Murphy")#|first': None,
    'friends.#(last=="Murphy")#.0': "[]", 'friends.#(last=="Murphy")#|#': "2", "nope": None,
    "children|@reverse": '["Jack","Alex","Sara"]', "children.@reverse.0": '"Jack"', "age.x": None,
    "friends.#.nets|@flatten|#": "7", "name.@this.first": '"Tom"', "children.3": None,
    "children.nope": None, "friends.#.nope": "[]",
    "@this.age": "37",
    "friends.#.nets.@reverse|0.0": '"tw"',
}  # fmt: skip


@pytest.mark.parametrize(("path", "expected"), EXAMPLES.items())
def test_the_documented_syntax_works(path: str, expected: str | None) -> None:
    found = gjson.compile_path(path).get(PEOPLE)
    assert found == twin.get(PEOPLE, path)
    assert found == (None if expected is None else expected.encode())
    assert other(PEOPLE, path) == (None if expected is None else json.loads(expected))


def other(document: bytes, path: str) -> object:
    """The independent implementation's answer as plain values."""

    def plain(value: object) -> object:
        if isinstance(value, pygjson.Result):
            return plain(value.value)
        if isinstance(value, list):
            return [plain(v) for v in value]
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    return plain(pygjson.get(document.decode(), path))


def test_modifiers_of_ours_work() -> None:
    for path, expected in {
        "@type": b'"person"',  # no modifier of that name: a member, as in JSON-LD
        "name.@keys": b'["first","last"]',
        "name.@values": b'["Tom","Anderson"]',
        "age.@keys": None,
        "name.@reverse.@keys": b'["last","first"]',
    }.items():
        assert gjson.compile_path(path).get(PEOPLE) == expected
        assert twin.get(PEOPLE, path) == expected
    wrapped = json.dumps({"body": ' {"id": 7} '}).encode()
    assert gjson.compile_path("body.@fromstr.id").get(wrapped) == b"7"
    assert gjson.compile_path("body.@fromstr").get(b'{"body":"{"}') is None


def test_numbers_are_compared_exactly_in_queries() -> None:
    rows = b'[{"n":9007199254740992,"id":1},{"n":9007199254740993,"id":2},{"n":1e400,"id":3}]'
    assert gjson.compile_path("#(n==9007199254740993).id").get(rows) == b"2"
    assert gjson.compile_path("#(n>9007199254740993)#.id").get(rows) == b"[3]"


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        ("", 0), (".a", 0), ("a.", 2), ("a..b", 2), ("a|", 2), ("|a", 0), ("a\\", 1), ("a.#(b", 3),
        ("#(a==)", 5), ("#()", 0), ('#(a=="x)', 5), ("#(a==~true)", 5), ("#(a!b)", 3), ("[a,b]", 0),
        ("a.{b}", 2), ("!true", 0), ("a.@pretty", 2), ("@flatten:{}", 0), ('#(a=="x"y)', 5),
        ("$.a", 0), ("$", 0), ("#(a)x", 4), ("a\ud800", 1),
    ],
)  # fmt: skip
def test_bad_paths_are_refused_with_their_offset(path: str, offset: int) -> None:
    with pytest.raises(PathError) as error:
        gjson.compile_path(path)
    assert error.value.offset == offset
    assert isinstance(error.value, ValueError)


def test_a_program_of_many_parts_is_refused() -> None:
    gjson.compile_path(".".join(["a"] * 256))
    with pytest.raises(PathError, match="more than 256"):
        gjson.compile_path(".".join(["a"] * 257))


NAMES = st.sampled_from(["a", "b", "ab", "a.b", "1", "#", "é", 'q"', "@x"])
SCALARS = st.sampled_from(
    [b"1", b"2.0", b"-1", b"1e2", b"true", b"false", b"null", b'"a"', b'"b c"', b'"\\u0061"', b'""',
     b'"[1, {\\"a\\": 2}]"', b'"10"']
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: b"[ " + b", ".join(parts) + b"]")
        | st.lists(st.tuples(NAMES, inner), max_size=4).map(
            lambda pairs: (
                b"{" + b" ,".join(json.dumps(n).encode() + b": " + v for n, v in pairs) + b" }"
            )
        )
    ),
    max_leaves=15,
)
LITERALS = st.sampled_from(
    ["1", "2", "-1", "100", '"a"', '"b c"', "true", "false", '"a*"', '"?"', "a"]
)
SIGNS = st.sampled_from(["==", "=", "!=", "<", "<=", ">", ">=", "%", "!%"])
PLAIN = st.sampled_from(["a", "b", "ab", r"a\.b", "0", "1", "2", "a*", "?", "*", "é", r"\@x", "#"])
MODIFIERS = st.sampled_from(
    ["@this", "@reverse", "@keys", "@values", "@flatten", "@fromstr", "@this"]
)
PARTS = st.recursive(
    PLAIN | MODIFIERS,
    lambda inner: st.builds(
        lambda left, sign, value, every: f"#({left}{sign}{value}){every}",
        st.just("") | inner.filter(lambda p: not p.startswith("#(")), SIGNS, LITERALS,
        st.sampled_from(["", "#"]),
    ) | st.builds(lambda left, every: f"#({left}){every}", inner, st.sampled_from(["", "#"])),
    max_leaves=2,
)  # fmt: skip
PATHS = st.lists(st.tuples(PARTS, st.sampled_from("...|")), min_size=1, max_size=4).map(
    lambda parts: "".join(part + separator for part, separator in parts)[:-1]
)


@given(DOCUMENTS, PATHS)
def test_native_and_twin_agree(document: bytes, path: str) -> None:
    found = gjson.compile_path(path).get(document)
    expected = twin.get(document, path)
    note(repr((document, path, found, expected)))
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        if "@" in path or "#" in path:  # what is built anew may be spelled otherwise
            assert not list(
                diff_twin.differences(diff_twin.parse(found), diff_twin.parse(expected), [])
            )
        else:
            assert found == expected


@given(DOCUMENTS, PATHS)
def test_a_judged_document_gives_the_same(document: bytes, path: str) -> None:
    compiled = gjson.compile_path(path)
    assert compiled.get(bytearray(document), judged=True) == compiled.get(document)
    with pytest.raises(JsonError):
        compiled.get(b"", judged=True)


NAMES = st.lists(st.sampled_from(["a", "b", "ab", r"a\.b", "é", r"\@x"]), min_size=1, max_size=3)


@given(DOCUMENTS, NAMES, st.integers(0, 40))
def test_names_lead_to_the_same_in_an_outline(document: bytes, names: list[str], most: int) -> None:
    outline = gjson.outline(document, most)
    assert outline == twin.outline(document, most)
    path = gjson.compile_path(".".join(names))
    found, short = path.get(document), path.get(outline)
    if found is not None and found[:1] == b"[" and len(found) > most:
        found = b"[]"
    assert short == (None if found is None else twin.outline(found, most))


@pytest.mark.parametrize("text", [b'{"a":[1,}', b'{"a', b"[" * 9999])
def test_an_outline_of_what_is_no_json_is_an_error(text: bytes) -> None:
    with pytest.raises(JsonError):
        gjson.outline(text, 0)


@given(DOCUMENTS, st.data())
def test_broken_documents_are_refused(document: bytes, data: st.DataObject) -> None:
    cut = document[: data.draw(st.integers(0, len(document) - 1))] + data.draw(
        st.binary(max_size=2)
    )
    path = gjson.compile_path("a.#.b")
    fault = diff_twin.scan.check_json(cut)
    if fault is None:
        path.get(cut)
    else:
        with pytest.raises(JsonError) as error:
            path.get(cut)
        assert error.value.offset == fault[1]


@pytest.mark.parametrize(
    "text", [b"", b"[" * 10_000, b'{"a":' * 10_000, b'"\\ud800"', b"\xff", b"NaN", b'{"a"\0:1}']
)
def test_hostile_documents_are_errors(text: bytes) -> None:
    for path in ("a", "#.a", "#(a==1)#", "@flatten", "@this"):
        with pytest.raises(JsonError):
            gjson.compile_path(path).get(text, 5000)


@pytest.mark.parametrize(
    ("record", "paths", "key"),
    [
        (b'{"id":7}', ["id"], b"7"), (b'{"id":1.0}', ["id"], b"1"),
        (b'{"id":80e-1}', ["id"], b"8"), (b'{"id":-0.0}', ["id"], b"0"),
        (b'{"id":-2.50}', ["id"], b"-2.5"), (b'{"id":1e3}', ["id"], b"1000"),
        (b'{"id":1.5e-3}', ["id"], b"0.0015"), (b'{"id":1e600}', ["id"], b"1e600"),
        (b'{"id":1E9999999999999999999}', ["id"], b"1E9999999999999999999"),
        (b'{"id":"a\\u00e9"}', ["id"], b"a\xc3\xa9"),
        (b'{"id":18446744073709551616}', ["id"], b"18446744073709551616"),
        (b'{"a":{"b":"x"},"n":2}', ["a.b", "n"], b"x:2"), (b' "k" ', ["@this"], b"k"),
        (b'{"id":"' + b"x" * 512 + b'"}', ["id"], b"x" * 512),
    ],
)  # fmt: skip
def test_keys_are_the_text_of_scalars(record: bytes, paths: list[str], key: bytes) -> None:
    assert gjson.key_of(record, [gjson.compile_path(p) for p in paths]) == key
    assert twin.key_of(record, paths) == key


@pytest.mark.parametrize(
    "record",
    [b"{}", b'{"id":null}', b'{"id":true}', b'{"id":[1]}', b'{"id":{}}', b'{"id":""}', b"[]", b"3",
     b'{"id":"a\\u0000b"}', b'{"id":"' + b"x" * 513 + b'"}', b'{"id":' + b"1" * 513 + b"}"],
)  # fmt: skip
def test_what_is_no_scalar_text_is_no_key(record: bytes) -> None:
    assert twin.key_of(record, ["id"]) is None
    with pytest.raises(JsonError):
        gjson.key_of(record, [gjson.compile_path("id")])


@given(st.lists(DOCUMENTS, max_size=5))
def test_split_gives_each_element(elements: list[bytes]) -> None:
    array = b" [\n" + b" , ".join(elements) + b"\t] "
    assert [array[start:end] for start, end in gjson.split(array)] == elements
    with pytest.raises(JsonError):
        gjson.split(array[:-2])
    with pytest.raises(JsonError):
        gjson.split(b'{"a":1}')
