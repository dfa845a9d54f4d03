"""What a walk reads in a page: the same in a large body, where it is looked up in an outline."""

import json
from contextlib import suppress
from typing import Any

import pytest

from litejoin.errors import PollError
from litejoin.sources.api.document import MISSING, Document, by_names

ROWS = [{"id": n, "at": f"t{n}", "own": {"next": n}} for n in range(5000)]
PAGE = {
    "next": "first", "rows": ROWS, "meta": {"next": 7, "more": False, "total": "5000"},
    "@odata.nextLink": "/p2", "edges": [{"cursor": "c0"}], "none": None, "id": "not a row",
}  # fmt: skip
BODY = bytearray(json.dumps(PAGE).encode())


def both() -> list[Document]:
    return [Document(BODY), Document(BODY, judged=True)]


@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("next", "first"), ("meta.next", "7"), (r"@odata\.nextLink", "/p2"), ("none", None),
        ("edges.0.cursor", "c0"), ("rows.4999.at", "t4999"), ("rows.#", "5000"), ("gone", None),
        ("meta.more", None), ("rows.own.next", None),
    ],
)  # fmt: skip
def test_tokens(path: str, token: str | None) -> None:
    for document in both():
        assert document.token(path) == token


def test_flags_counts_and_values() -> None:
    for document in both():
        assert document.flag("meta.more") is False
        assert document.flag("gone") is None
        assert document.count("meta.total") == 5000
        assert document.value("gone") is MISSING
        assert document.value("meta") == PAGE["meta"]
        for wrong in ("rows", "edges", "meta"):
            with pytest.raises(PollError):
                document.token(wrong)


def test_fields_of_records() -> None:
    for document in both():
        assert document.field_of("rows", 4999, "at") == "t4999"
        assert document.field_of("rows", 0, "own.next") == "0"
        assert list(document.fields("rows", "at")) == [row["at"] for row in ROWS]
        assert list(document.fields("rows|@reverse", "id")) == list(range(4999, -1, -1))
        assert list(document.fields("gone", "at")) == []


@pytest.mark.parametrize(
    ("page", "path", "expected"),
    [
        (ROWS[:3], "", ["t0", "t1", "t2"]), ([], "", []), (ROWS[0], "", ["t0"]), ({}, "", []),
        ({"d": {"r": ROWS[:2]}}, "d.r", ["t0", "t1"]), ({"d": ROWS[0]}, "d", ["t0"]),
        ({"d": [ROWS[:2], ROWS[2:3]]}, "d|@flatten", ["t0", "t1", "t2"]), ({"d": []}, "d", []),
    ],
)  # fmt: skip
def test_fields_wherever_the_records_are(page: Any, path: str, expected: list[str]) -> None:
    body = json.dumps(page).encode()
    for document in (Document(body), Document(body, judged=True)):
        assert list(document.fields(path, "at")) == expected
        if expected:
            assert document.field_of(path, len(expected) - 1, "at") == expected[-1]


@pytest.mark.parametrize(
    ("path", "is_names"),
    [
        ("a", True), ("a.b-c.d_e", True), (r"a\.b", True), ("@id", True), ("x.2a", True),
        ("", False), ("0", False), ("a.0.b", False), ("a.#", False), ("a|b", False),
        ("a*", False), ("@this.a", False), ("a.@values.b", False), ("#(a==1).b", False),
    ],
)  # fmt: skip
def test_which_paths_lead_through_objects_only(path: str, is_names: bool) -> None:
    assert by_names(path) is is_names


DIGITS = b"9" * 5_000


@pytest.mark.parametrize(
    "value",
    [b"1e400", DIGITS, b'"' + DIGITS + b'"', b"[" * 990 + b"]" * 990, '["x' + "\u00e4" * 40 + '"]'],
    ids=["1e400", "digits", "text of digits", "deep", "cut in a character"],
)
def test_what_python_cannot_hold_is_refused_and_nothing_else(value: bytes | str) -> None:
    text = value if isinstance(value, bytes) else value.encode()
    for judged in (False, True):
        page = Document(b'{"a":' + text + b"}", judged=judged)
        rows = Document(b'[{"a":' + text + b"}]", judged=judged)
        for ask in (page.flag, page.value, page.token):
            with suppress(PollError):
                ask("a")
        with suppress(PollError):
            list(rows.fields("", "a"))
        with pytest.raises(PollError):
            page.count("a")
