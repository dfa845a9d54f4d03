"""The quick frozen dataclass does what the standard one does."""

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from typing import Any

import pytest

from litejoin.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Quick:
    """A value."""

    number: int
    text: str = "x"
    items: list[int] = field(default_factory=list)

    @property
    def double(self) -> int:
        return 2 * self.number


@dataclass(frozen=True, slots=True)
class Child(Quick):
    """One more field."""

    more: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A value with its own text."""

    number: int

    def __repr__(self) -> str:
        return f"<{self.number}>"


class Standard:
    """The same classes made by the standard library."""

    @dataclasses.dataclass(frozen=True, slots=True)
    class Quick:
        """A value."""

        number: int
        text: str = "x"
        items: list[int] = field(default_factory=list)


def test_it_is_a_dataclass() -> None:
    assert [f.name for f in fields(Child)] == ["number", "text", "items", "more"]
    assert asdict(Child(1, more=(2,))) == {"number": 1, "text": "x", "items": [], "more": (2,)}
    assert replace(Quick(1), number=2) == Quick(2)
    assert Quick(3).double == 6
    assert not hasattr(Quick(1), "__dict__")


@pytest.mark.parametrize("value", [Quick(1, items=[2]), Child(1, "y", [3], (4,))])
def test_copies_are_equal(value: Quick) -> None:
    for made in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert made == value
        assert type(made) is type(value)
    assert copy.deepcopy(value).items is not value.items


def test_defaults_are_made_anew() -> None:
    assert Quick(1).items is not Quick(1).items


def test_it_compares_hashes_and_prints_as_the_standard_one() -> None:
    ours, theirs = Quick(1, "y"), Standard.Quick(1, "y")
    assert repr(ours) == repr(theirs).replace("Standard.", "")
    assert ours == Quick(1, "y") and ours != Quick(2, "y") and ours != theirs
    assert Quick(1) != Child(1)
    assert hash(Named(1)) == hash(Named(1)) == hash((1,))
    nan = float("nan")
    same: Any = Quick(nan)  # type: ignore[arg-type]
    assert same == Quick(nan)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        hash(ours)
    assert repr(Named(7)) == "<7>"


def test_it_is_frozen() -> None:
    value: Any = Quick(1)
    with pytest.raises(FrozenInstanceError):
        value.number = 2
    with pytest.raises(FrozenInstanceError):
        del value.number
    with pytest.raises(FrozenInstanceError):
        value.other = 2
    assert value.number == 1


def test_wrong_arguments_are_refused() -> None:
    made: Any = Quick
    for arguments in ((), (1, 2, 3, 4)):
        with pytest.raises(TypeError):
            made(*arguments)
    with pytest.raises(TypeError):
        made(number=1, unknown=2)


def test_what_it_does_not_do_is_refused_or_left_to_the_standard_one() -> None:
    with pytest.raises(TypeError, match="standard dataclass"):

        @dataclass(frozen=True, slots=True)
        class Hidden:
            number: int = field(default=1, compare=False)

    @dataclass(slots=True)
    class Open:
        number: int

    changed = Open(1)
    changed.number = 2
    assert changed == Open(2)
