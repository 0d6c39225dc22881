"""The numbers that floats of a scenario stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def as_written(rate: float) -> Fraction:
    """Return the number that a float stands for: 29/100 for 0.29, and 1/3 for 1 / 3.

    Rounded products would lose tasks at the end of a slot or move them to the slot before. The
    number is a simple fraction that rounds to the float, or else its shortest decimal.
    """
    exact = Fraction(rate)
    simple = (exact.limit_denominator(10**digits) for digits in range(10))
    return next((fraction for fraction in simple if float(fraction) == rate), Fraction(repr(rate)))


def whole_weights(weights: Sequence[float]) -> list[int]:
    """Return weights as whole numbers without a common divisor.

    >>> whole_weights([0.5, 0.0, 1.5])
    [1, 0, 3]
    """
    exact = [as_written(weight) for weight in weights]
    scale = math.lcm(*(each.denominator for each in exact))
    whole = [int(each * scale) for each in exact]
    divisor = math.gcd(*whole)
    return [each // divisor for each in whole]
