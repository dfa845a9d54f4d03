"""`dataclass(frozen=True, slots=True)` for values, made in a third of the time.

The standard one compiles six methods for every class from text; with the sixty classes that a
command imports this was a fifth of what `litejoin validate` takes. Here a class gets an `__init__`
of its own and shares the other methods. Type checkers see the standard one, and so do
`dataclasses.fields`, `replace` and `asdict`; any other combination of options is left to it.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, cast

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, **options):
        """As `dataclasses.dataclass`."""
        if cls is not None or options != {"frozen": True, "slots": True}:
            return dataclasses.dataclass(cls, **options)
        return _frozen


def _frozen(cls: type[T]) -> type[T]:
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    if hasattr(made, "__post_init__") or any(map(_is_special, dataclasses.fields(made))):
        raise TypeError(f"{cls.__name__} needs the standard dataclass")
    made.__init__ = _initializer(made)
    for method in (__repr__, __eq__, __hash__, __setattr__, __delattr__, __reduce__):
        if method.__name__ not in vars(cls):
            setattr(made, method.__name__, method)
    return cast(type[T], made)


def _is_special(field: Any) -> bool:
    return not (field.init and field.repr and field.compare) or field.kw_only is True


def _initializer(cls: Any) -> Any:
    """An `__init__` that fills the slots directly, as `__setattr__` refuses to."""
    names: dict[str, Any] = {"missing": dataclasses.MISSING}
    parameters, body = [], []
    for field in dataclasses.fields(cls):
        name, parameter, value = field.name, field.name, field.name
        names[f"set_{name}"] = getattr(cls, name).__set__
        if field.default is not dataclasses.MISSING:
            names[f"default_{name}"] = field.default
            parameter = f"{name}=default_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            names[f"make_{name}"] = field.default_factory
            parameter = f"{name}=missing"
            value = f"make_{name}() if {name} is missing else {name}"
        parameters.append(parameter)
        body.append(f"    set_{name}(self, {value})\n")
    source = f"def __init__(self, {', '.join(parameters)}):\n{''.join(body) or '    pass'}"
    exec(source, names)
    return names["__init__"]


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def __repr__(self: Any) -> str:
    inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({inside})"


def __eq__(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def __hash__(self: Any) -> int:
    return hash(_values(self))


def __setattr__(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def __delattr__(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def __reduce__(self: Any) -> tuple[Any, tuple[Any, ...]]:
    return type(self), _values(self)
