"""Lines of at most 100 columns, with nothing lost."""

from hypothesis import given
from hypothesis import strategies as st

from litejoin.plan.layout import PAGE_WIDTH, aligned, section, table, wrapped


def test_columns_are_aligned() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "cc")]) == ["  a     bb   c", "  aaa   b    cc"]


def test_the_last_column_wraps_under_itself() -> None:
    (first, second), (third,) = aligned([("name", "word " * 20 + "end"), ("n", "x")])
    assert first.startswith("  name   word")
    assert second.startswith(" " * 9 + "word") or second.strip() == "end"
    assert third == "  n      x"


def test_a_table_without_rows_has_no_lines() -> None:
    assert table([]) == []


def test_a_section_without_lines_has_no_title() -> None:
    assert section("Joins", []) == []
    assert section("Joins", ["  x"]) == ["", "Joins", "  x"]


def test_a_long_word_is_cut_into_pieces_not_lost() -> None:
    word = "x" * 250
    lines = wrapped(f"    {word}", 6)
    assert "".join(line.strip() for line in lines) == word
    assert max(map(len, lines)) <= PAGE_WIDTH


@given(st.text(alphabet=st.sampled_from("ab  cde"), max_size=600), st.integers(0, 95))
def test_wrapping_keeps_every_character_but_spaces(text: str, hanging: int) -> None:
    lines = wrapped(text, hanging)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) <= PAGE_WIDTH for line in lines)
