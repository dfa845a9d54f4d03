"""Sums of doubles from partial sums, equal to what SQLite's sum() and avg() give over all rows.

Pure arithmetic. A double is split into three integers ("limbs") at fixed binary places; limbs of
many values add up exactly in any order, as integers. SQLite adds with Kahan, Babuska and Neumaier's
compensation: each addition's error is exact, and only the sum of the errors is rounded. With n
values and M the sum of their magnitudes, its result is the exact sum S, off by at most (n u)^2 M (u
= 2^-53), then rounded once. Where S minus and plus that bound round to the same double, that double
is SQLite's result; where they do not, or a value has bits outside the limbs, the caller asks
SQLite.
"""

from fractions import Fraction

LIMB_BITS = (8, 36, 36)
"""Binary places of each limb: the first holds the value down to 2^-8, the last down to 2^-80."""

MAX_MAGNITUDE = 2**32
"""Of a real: its first limb is below 2^40, so the limbs of 2^23 values add up without overflow."""

MAX_INTEGER = 2**40
"""Of an integer, for the same reason."""

MAX_SUM = 2.0**62
"""Numbers whose magnitudes add up to more could overflow in some order."""

_UNIT = Fraction(1, 2**53)
_SLACK = Fraction(1001, 1000)
"""Magnitudes are added as doubles themselves."""


def limbs_sql(value: str) -> tuple[str, str, str]:
    """SQL for the three limbs of a real; exact while its magnitude is below MAX_MAGNITUDE."""
    first, more, last = LIMB_BITS
    high = f"CAST({value} * {2.0**first!r} AS INTEGER)"
    rest = f"(({value} * {2.0**first!r} - {high}) * {2.0**more!r})"
    middle = f"CAST({rest} AS INTEGER)"
    low = f"CAST(({rest} - {middle}) * {2.0**last!r} AS INTEGER)"
    return high, middle, low


def fits_sql(value: str) -> str:
    """SQL that is true when a real is exactly the sum of its limbs."""
    first, more, last = LIMB_BITS
    high = f"CAST({value} * {2.0**first!r} AS INTEGER)"
    rest = f"(({value} * {2.0**first!r} - {high}) * {2.0**more!r})"
    left = f"(({rest} - CAST({rest} AS INTEGER)) * {2.0**last!r})"
    return f"(abs({value}) < {float(MAX_MAGNITUDE)!r} AND {left} = CAST({left} AS INTEGER))"


def real_sum(
    integers: int, limbs: tuple[int, int, int], count: int, magnitude: float
) -> float | None:
    """SQLite's sum of `count` numbers, of which at least one is a real; None: ask SQLite."""
    first, more, last = LIMB_BITS
    exact = (
        Fraction(integers)
        + Fraction(limbs[0], 2**first)
        + Fraction(limbs[1], 2 ** (first + more))
        + Fraction(limbs[2], 2 ** (first + more + last))
    )
    bound = (count * _UNIT) ** 2 * Fraction(magnitude) * _SLACK
    low, high = float(exact - bound), float(exact + bound)
    # A sum of zero may be -0.0 or 0.0: the order decides.
    return low if low == high and low != 0.0 else None
