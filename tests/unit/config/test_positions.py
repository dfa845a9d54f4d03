"""A place inside a scalar's text is found in the file, whatever style the scalar has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin.config.diagnostics import Diagnostics, find
from litejoin.config.load import load_text
from litejoin.config.nodes import Scalar, Source
from litejoin.plan.nodes import Place


def scalar(text: str) -> Scalar:
    found = Diagnostics()
    root = load_text("f.yaml", text, found)
    assert root is not None, found.sorted()
    node = find(root, ["q"])
    assert isinstance(node, Scalar)
    return node


@pytest.mark.parametrize(
    "text",
    [
        "q: SELECT x_y FROM t\n",
        "q: 'SELECT x_y FROM t'\n",
        'q: "SELECT x_y FROM t"\n',
        "q: |\n  SELECT x_y\n  FROM t\n",
        "q: |\n\n  SELECT\n      x_y\n  FROM t\n",
        "q: |2-\n    SELECT x_y\n  FROM t\n",
        "q: >\n  SELECT\n  x_y FROM\n\n  t\n",
        "q: >-\n  SELECT\n\n    x_y\n  FROM t\n",
        "q: |\r\n  SELECT\r\n    x_y\r\n  FROM t\r\n",
        "q: SELECT\n  x_y\n  FROM t\n",
        "q: 'SELECT ''a'' ||\n\n  x_y'\n",
        'q: "SELECT \\"a\\", \\t \\u00e4\\x41, \\\n   x_y"\n',
        "q: 'é𝄞 x_y'\n",
        "list: &a [1]\nq: !!str &b SELECT x_y\n",
        "\ufeffq: SELECT x_y\n",
        "q: |  # a comment\n  SELECT x_y\n",
    ],
)
def test_a_word_in_the_value_is_found_at_its_place_in_the_file(text: str) -> None:
    node = scalar(text)
    index = node.index_of(node.text.index("x_y"))
    assert node.source.text[index : index + 3] == "x_y"
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    before = text[: text.index("x_y")]
    expected = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    assert node.source.place(index) == expected


WORDS = st.text("ab:'\"\\ \n#é", max_size=30)


@given(WORDS)
def test_every_visible_character_of_a_literal_block_maps_to_itself(words: str) -> None:
    lines = ["M" + line for line in words.split("\n")]
    node = scalar("q: |\n" + "".join(f"   {line}\n" for line in lines))
    assert node.text == "\n".join(lines) + "\n"
    for offset, character in enumerate(node.text):
        assert node.source.text[node.index_of(offset)] == character


@given(WORDS)
def test_every_visible_character_of_a_single_quoted_scalar_maps_to_itself(words: str) -> None:
    flat = words.replace("\n", " ")
    node = scalar("q: '" + flat.replace("'", "''") + "'\n")
    assert node.text == flat
    for offset, character in enumerate(node.text):
        assert node.source.text[node.index_of(offset)] == character


def test_offsets_past_the_text_are_its_end() -> None:
    node = scalar("q: abc\n")
    assert [node.index_of(n) for n in (-1, 0, 3, 99)] == [3, 3, 6, 6]


def test_lines_are_counted_as_editors_count_them() -> None:
    source = Source("f", "a\r\nb\rc\n\u2028d\x85e\n")
    assert [source.line(n) for n in range(7)] == ["", "a", "b", "c", "\u2028d\x85e", "", ""]
    assert source.place(len(source.text)) == Place(5, 1)
    assert source.place(source.text.index("e")) == Place(4, 4)
