"""The record diff: what is equal, how a change is told, and that native and twin never disagree."""

import json
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from litejoin._ext import diff
from litejoin.errors import JsonError, PathError
from tests.reference import diff as twin
from tests.reference import json_scan

NUMBERS = st.sampled_from(
    [b"0", b"-0", b"0.0", b"1", b"1.0", b"1e0", b"10", b"1E1", b"100e-1", b"-1", b"0.1", b"1e-1",
     b"9007199254740993", b"9007199254740992", b"18446744073709551616", b"18446744073709551615",
     b"1e400", b"10e399", b"1e401", b"1e99999999999999999999", b"0e99999999999999999999"]
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "a b", "", "é", 'q"', "a.b", "\x01", "#", "1"])


def spell(text: str, escapes: bool) -> bytes:
    return json.dumps(text, ensure_ascii=escapes).encode()


def containers(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    space = st.sampled_from([b"", b" ", b"\n\t"])
    member = st.builds(
        lambda name, escapes, gap, value: spell(name, escapes) + gap + b":" + gap + value,
        NAMES, st.booleans(), space, inner,
    )  # fmt: skip
    objects = st.lists(member, max_size=5).map(lambda parts: b"{" + b",".join(parts) + b"}")
    arrays = st.builds(
        lambda parts, gap: b"[" + gap + (gap + b",").join(parts) + b"]",
        st.lists(inner, max_size=4), space,
    )  # fmt: skip
    return objects | arrays


STRINGS = st.builds(
    spell, st.sampled_from(["", "A", "é", "\U0001f600", "x\\y", "1"]), st.booleans()
)
LITERALS = st.sampled_from([b"null", b"true", b"false", rb'"\u0041"', rb'"\/"'])
JSON = st.recursive(NUMBERS | STRINGS | LITERALS, containers, max_leaves=12)
PATHS = st.lists(
    st.lists(
        st.sampled_from(["a", "b", "#", "0", "1", r"a\.b", "a b"]), min_size=1, max_size=3
    ).map(".".join),
    max_size=4,
)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (b'{"a":1,"b":2}', b' { "b" : 2 , "a" : 1 } '),
        (b"1", b"1.0"), (b"1", b"1e0"), (b"100", b"1E+2"), (b"0", b"-0.00e7"), (b"0.001", b"1e-3"),
        (rb'"\u0041\/"', b'"A/"'), (rb'"\ud83d\ude00"', '"😀"'.encode()),
        (rb'{"\u0061":1}', b'{"a":1}'),
        (b"18446744073709551616", b"18446744073709551616.0"), (b"1e400", b"10e399"),
        (b"1e00000000000000000000005", b"100000"), (b"0e99999999999999999999", b"0"),
        (b"[]", b"[ ]"), (b"{}", b"{ }"),
    ],
)  # fmt: skip
def test_equal_values_are_equal_however_spelled(a: bytes, b: bytes) -> None:
    assert diff.equal(a, b)
    assert diff.changes(a, b) is None
    assert diff.record_hash(a) == diff.record_hash(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (b"9007199254740992", b"9007199254740993"),
        (b"18446744073709551615", b"18446744073709551616"), (b"1e400", b"1e401"),
        (b"1e400", b"2e400"), (b"0.1", b"0.10000000000000000001"), (b"1", b"-1"), (b"1", b'"1"'),
        (b"null", b"false"), (b'""', b"null"), (b"[]", b"{}"), (b"[1,2]", b"[2,1]"),
        (b"[1]", b"[1,null]"), (b'{"a":null}', b"{}"), (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'{"a":1,"a":2}', b'{"a":2,"a":1}'), (b'"e\xcc\x81"', '"é"'.encode()),
        (b"1e99999999999999999999", b"1e99999999999999999998"),
    ],
)  # fmt: skip
def test_different_values_differ(a: bytes, b: bytes) -> None:
    assert not diff.equal(a, b)
    assert diff.changes(a, b) is not None
    assert diff.record_hash(a) != diff.record_hash(b)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b'{"a":{"b":[1,2]}}', b'{"a":{"b":[1,3]}}', b'{"$.a.b[1]":[2,3]}'),
        (b'{"s":"x","n":1}', b'{"n":1,"s":"y","t":[ 1 ]}', b'{"$.s":["x","y"],"$.t":[null,[ 1 ]]}'),
        (b'{"a":1,"b":2}', b'{"b":2}', b'{"$.a":[1,null]}'),
        (b"[1,2,3]", b"[1]", b'{"$[1]":[2,null],"$[2]":[3,null]}'),
        (b"[]", b"[7]", b'{"$[0]":[null,7]}'),
        (b'{"a b":1}', b'{"a b":2}', b'{"$.\\"a b\\"":[1,2]}'),
        (b'{"":1}', b'{"":2}', b'{"$.\\"\\"":[1,2]}'),
        (b'{"a":1,"a":2}', b'{"a":1,"a":3}', b'{"$.a(2)":[2,3]}'),
        (b'{"a":1}', b"[1]", b'{"$":[{"a":1},[1]]}'),
        (b'{"a":{"x":1}}', b'{"a":1e400}', b'{"$.a":[{"x":1},1e400]}'),
    ],
)
def test_a_change_tells_its_path_and_both_texts(
    before: bytes, after: bytes, expected: bytes
) -> None:
    assert diff.changes(before, after) == expected
    assert twin.changes(before, after) == expected


def test_paths_are_those_of_sqlites_json_functions() -> None:
    import apsw

    old, new = b'{"a b":{"c.d":[5]},"e":1}', b'{"a b":{"c.d":[6]},"e":1}'
    text = diff.changes(old, new)
    assert text is not None
    (path,) = json.loads(text)
    query = "SELECT json_extract(?, ?)"
    assert apsw.Connection(":memory:").execute(query, (new.decode(), path)).fetchall() == [(6,)]


def test_ignored_paths_are_no_change() -> None:
    old = (
        b'{"id":1,"at":5,"m":{"seen":1,"x":2},"l":[{"r":1,"v":1},{"r":2,"v":2}],"t":[1,2],"a.b":1}'
    )
    new = b'{"id":1,"at":6,"m":{"x":2},"l":[{"r":8,"v":1},{"r":9,"v":2}],"t":[9,2],"a.b":2,"z":1}'
    ignore = ["at", "m.seen", "l.#.r", "t.0", r"a\.b", "z"]
    assert diff.changes(old, new, ignore) is None
    assert diff.record_hash(old, ignore) == diff.record_hash(new, ignore)
    assert diff.changes(old, new, ignore[:-1]) == b'{"$.z":[null,1]}'
    assert diff.record_hash(old, ignore[:-1]) != diff.record_hash(new, ignore[:-1])


@pytest.mark.parametrize("path", ["", ".a", "a.", "a..b", "a\\", "$.a", "$"])
def test_bad_ignored_paths_are_refused(path: str) -> None:
    with pytest.raises(PathError):
        diff.changes(b"1", b"2", [path])


def test_more_than_64_ignored_paths_are_refused() -> None:
    assert diff.changes(b'{"p63":1}', b"{}", [f"p{i}" for i in range(64)]) is None
    with pytest.raises(PathError, match="at most 64"):
        diff.record_hash(b"1", [f"p{i}" for i in range(65)])


@given(JSON, JSON, PATHS)
def test_native_and_twin_agree(a: bytes, b: bytes, ignore: list[str]) -> None:
    found = diff.changes(a, b, ignore)
    note(repr((a, b, ignore, found)))
    assert found == twin.changes(a, b, ignore)
    assert diff.equal(a, b) == twin.equal(a, b)
    assert diff.record_hash(a, ignore) == twin.record_hash(a, ignore)
    assert (diff.record_hash(a, ignore) == diff.record_hash(b, ignore)) == (found is None)
    if found is not None:
        json.loads(found)


@given(JSON, st.data())
def test_respelled_values_stay_equal(text: bytes, data: st.DataObject) -> None:
    def respell(node: twin.Node) -> bytes:
        if node.kind == twin.OBJECT:
            parts = [spell(name[0], data.draw(st.booleans())) + b": " + respell(child)
                     for name, child in node.members.items()]  # fmt: skip
            if len({name for name, _ in node.members}) == len(parts):
                parts = data.draw(st.permutations(parts))
            return b"{" + b",".join(parts) + b" }"
        if node.kind == twin.ARRAY:
            return b"[" + b" , ".join(map(respell, node.elements)) + b"]"
        if node.kind == twin.STRING:
            return spell(node.text, data.draw(st.booleans()))
        if node.kind == twin.NUMBER and not twin.number(node.raw).huge:
            n = twin.number(node.raw)
            return b"-" * n.negative + b"0." + (n.digits or b"0") + b"e%d" % n.magnitude
        return node.raw

    again = respell(twin.parse(text))
    assert diff.equal(text, again)
    assert diff.record_hash(text) == diff.record_hash(again)


def apply(old: Any, new: Any) -> Any:
    """The old value with every reported change made; a missing member counts as null."""
    text = diff.changes(json.dumps(old).encode(), json.dumps(new).encode())
    box = {"$": json.loads(json.dumps(old))}
    for path, (_, after) in json.loads(text or b"{}").items():
        place: Any = box
        *steps, last = steps_of(path)
        for name in steps:
            place = place[name]
        if isinstance(place, list) and last == len(place):
            place.append(after)
        else:
            place[last] = after
    return box["$"]


def steps_of(path: str) -> list[str | int]:
    """The steps of a path whose names are all plain."""
    parts = path.replace("[", ".[").split(".")
    return [int(part[1:-1]) if part.startswith("[") else part for part in parts]


PLAIN = st.recursive(
    st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=4)
    ),
    max_leaves=15,
)


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_null(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        kept = [without_null(v) for v in value]
        while kept and kept[-1] is None:
            kept.pop()
        return kept
    return value


@given(PLAIN, PLAIN)
def test_old_plus_changes_is_new(old: Any, new: Any) -> None:
    assert without_null(apply(old, new)) == without_null(new)


@given(JSON, st.data())
def test_bad_json_is_refused_at_the_twins_byte(text: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    rubbish = data.draw(
        st.binary(max_size=2) | st.sampled_from([b'"', b"\\ud800", b",", b"}", b"NaN"])
    )
    broken = text[:at] + rubbish + text[at + data.draw(st.integers(0, 2)) :]
    depth = data.draw(st.integers(0, 5))
    fault = json_scan.check_json(broken, depth)
    for call in (
        lambda: diff.record_hash(broken, max_depth=depth),
        lambda: diff.equal(b"1", broken, depth),
        lambda: diff.changes(broken, b"1", max_depth=depth),
    ):
        if fault is None:
            call()
        else:
            with pytest.raises(JsonError) as error:
                call()
            assert error.value.offset == fault[1]


@pytest.mark.parametrize(
    "text",
    [b"", b"\0", b"{\0}", b'"\0"', rb'"\ud800"', b'"\xff"', b"NaN", b"-Infinity", b"[" * 10_000,
     b'{"a":' * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":1', b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_hostile_input_is_an_error_with_an_offset(text: bytes) -> None:
    for depth in (64, 5000):
        with pytest.raises(ValueError, match="at byte [0-9]+"):
            diff.record_hash(text, max_depth=depth)
        with pytest.raises(ValueError, match="at byte [0-9]+"):
            diff.equal(text, b"1", depth)


def test_large_values_are_compared() -> None:
    big = b'{"v":"' + b"x" * 10_000_000 + b'","n":' + b"7" * 1_000_000 + b"}"
    other = big[:-2] + b"8}"
    assert diff.equal(big, big.replace(b'"v"', rb'"\u0076"'))
    assert not diff.equal(big, other)
    assert diff.record_hash(big) != diff.record_hash(other)
    nested = b"[" * 1000 + b"1" + b"]" * 1000
    assert diff.equal(nested, nested.replace(b"1", b"1.0"), 1000)


def test_a_record_with_a_million_values_is_refused() -> None:
    crowd = b"[" + b"0," * 1_000_000 + b"0]"
    with pytest.raises(JsonError, match="more than 1,000,000 values"):
        diff.record_hash(crowd)
    with pytest.raises(JsonError, match="more than 1,000,000 values"):
        diff.equal(crowd, b"1")


def test_long_names_above_many_changes_stay_bounded() -> None:
    def record(n: int) -> bytes:
        return (
            b'{"'
            + b"x" * 100_000
            + b'":{'
            + b",".join(b'"k%d":%d' % (i, n) for i in range(9999))
            + b"}}"
        )

    found = diff.changes(record(1), record(2))
    assert found == b'{"$":[' + record(1) + b"," + record(2) + b"]}"
