"""Elementary functions that give the same bits on every CPU and with every C library.

The functions of numpy and libm choose a kernel by the instruction set at hand, and these kernels
differ in the last bit. The functions here use only operations that IEEE 754 rounds correctly
(+, -, *, /, sqrt) and bit patterns, in a fixed order that the compiler may not change: numba
neither reorders floating-point operations nor contracts them to fused multiply-adds unless
``fastmath`` allows it. Errors stay below 1 ulp (except :func:`normal_quantile`, see there).

Logarithms, exponential, sine and cosine are those of fdlibm:
    Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun
    Microsystems, Inc. business. Permission to use, copy, modify, and distribute this software is
    freely granted, provided that this notice is preserved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from mecsim.support.arrays import Floats
from mecsim.support.jit import compiled

LN_2: Final = 0.6931471805599453
LN_10: Final = 2.302585092994046

_LN2_HIGH: Final = 6.93147180369123816490e-01
_LN2_LOW: Final = 1.90821492927058770002e-10
_SMALLEST_NORMAL: Final = 2.0**-1022
_MANTISSA: Final = (1 << 52) - 1
_ROOT_HALF: Final = 0x3FE6A09E << 32
"""The bits of √½, rounded down to 32 bits."""
_ONE: Final = 0x3FF00000 << 32


# ---------------------------------------------------------------- numbers


@compiled
def _split(x: float) -> tuple[int, float]:
    """Return k and f such that x = 2^k (1 + f) and √½ ≤ 1 + f < √2, for a normal x > 0."""
    bits = np.float64(x).view(np.int64) + (_ONE - _ROOT_HALF)
    fraction = np.int64((bits & _MANTISSA) + _ROOT_HALF).view(np.float64)
    return (bits >> 52) - 1023, fraction - 1.0  # type: ignore[return-value]


@compiled
def _log_of_parts(k: int, f: float, correction: float) -> float:
    """Return log(2^k (1 + f)) + correction."""
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (
        3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01)
    )
    odd = z * (
        6.666666666666735130e-01
        + w
        * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half_square = 0.5 * f * f
    small = s * (half_square + (odd + even)) + (k * _LN2_LOW + correction)
    return small - half_square + f + k * _LN2_HIGH


@compiled
def log(x: float) -> float:
    """Return the natural logarithm; -inf at 0, NaN below."""
    if not x > 0.0:
        return -math.inf if x == 0.0 else math.nan
    if x == math.inf:
        return math.inf
    if x < _SMALLEST_NORMAL:
        k, f = _split(x * 2.0**54)
        return _log_of_parts(k - 54, f, 0.0)
    k, f = _split(x)
    return _log_of_parts(k, f, 0.0)


@compiled
def log1p(x: float) -> float:
    """Return log(1 + x), precise also near 0; -inf at -1, NaN below."""
    if not x > -1.0:
        return -math.inf if x == -1.0 else math.nan
    if x == math.inf or abs(x) < 2.0**-53:
        return x
    if -0.2928932188134524 < x < 0.4142135623730951:
        return _log_of_parts(0, x, 0.0)
    total = 1.0 + x
    k, f = _split(total)
    lost = 1.0 - (total - x) if k >= 2 else x - (total - 1.0)
    return _log_of_parts(k, f, lost / total if k < 54 else 0.0)


@compiled
def exp(x: float) -> float:
    """Return e^x; 0 or inf where no float can hold it."""
    if x > 709.782712893383973096:
        return math.inf
    if x < -745.13321910194110842:
        return 0.0
    if not abs(x) > 2.0**-28:
        return 1.0 + x  # also NaN
    k = 0
    if abs(x) > 0.5 * LN_2:
        k = math.floor(x * 1.44269504088896338700 + 0.5)
    high, low = x - k * _LN2_HIGH, k * _LN2_LOW
    r = high - low
    z = r * r
    c = r - z * (
        1.66666666666666019037e-01
        + z
        * (
            -2.77777777770155933842e-03
            + z
            * (
                6.61375632143793436117e-05
                + z * (-1.65339022054652515390e-06 + z * 4.13813679705723846039e-08)
            )
        )
    )
    y = 1.0 + (r * c / (2.0 - c) - low + high)
    half = k >> 1  # 2^k in two steps, as it may be too large or too small for a normal number
    return y * _power_of_two(half) * _power_of_two(k - half)


@compiled
def _power_of_two(k: int) -> float:
    """Return 2^k for -1022 ≤ k ≤ 1023."""
    return np.int64((k + 1023) << 52).view(np.float64)


@compiled
def cos_sin(turns: float) -> tuple[float, float]:
    """Return the cosine and the sine of an angle in full turns, 0 ≤ turns ≤ 1."""
    quadrant = math.floor(4.0 * turns + 0.5)
    x = 2.0 * math.pi * (turns - quadrant / 4.0)  # within π/4
    z = x * x
    w = z * z
    r = 8.33333333332248946124e-03 + z * (
        -1.98412698298579493134e-04 + z * 2.75573137070700676789e-06
    )
    r += z * w * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)
    sine = x + z * x * (-1.66666666666666324348e-01 + z * r)
    r = z * (
        4.16666666666666019037e-02
        + z * (-1.38888888888741095749e-03 + z * 2.48015872894767294178e-05)
    )
    r += (
        w
        * w
        * (
            -2.75573143513906633035e-07
            + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)
        )
    )
    rest = 1.0 - 0.5 * z
    cosine = rest + (((1.0 - rest) - 0.5 * z) + z * r)
    if quadrant % 4 == 0:
        return cosine, sine
    if quadrant % 4 == 1:
        return -sine, cosine
    if quadrant % 4 == 2:
        return -cosine, -sine
    return sine, -cosine


@compiled
def normal_quantile(p: float) -> float:
    """Return the quantile of the standard normal distribution for 0 < p < 1.

    The relative error is about 1e-16. Source: Wichura, "Algorithm AS241: The percentage points of
    the normal distribution", Applied Statistics 37, 1988 (PPND16).
    """
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        above = 2.5090809287301226727e3 * r + 3.3430575583588128105e4
        above = (above * r + 6.7265770927008700853e4) * r + 4.5921953931549871457e4
        above = (above * r + 1.3731693765509461125e4) * r + 1.9715909503065514427e3
        above = (above * r + 1.3314166789178437745e2) * r + 3.3871328727963666080e0
        below = 5.2264952788528545610e3 * r + 2.8729085735721942674e4
        below = (below * r + 3.9307895800092710610e4) * r + 2.1213794301586595867e4
        below = (below * r + 5.3941960214247511077e3) * r + 6.8718700749205790830e2
        below = (below * r + 4.2313330701600911252e1) * r + 1.0
        return above * q / below
    r = math.sqrt(-log(p if q < 0.0 else 1.0 - p))
    if r <= 5.0:
        r -= 1.6
        above = 7.7454501427834140764e-4 * r + 2.27238449892691845833e-2
        above = (above * r + 2.41780725177450611770e-1) * r + 1.27045825245236838258e0
        above = (above * r + 3.64784832476320460504e0) * r + 5.76949722146069140550e0
        above = (above * r + 4.63033784615654529590e0) * r + 1.42343711074968357734e0
        below = 1.05075007164441684324e-9 * r + 5.47593808499534494600e-4
        below = (below * r + 1.51986665636164571966e-2) * r + 1.48103976427480074590e-1
        below = (below * r + 6.89767334985100004550e-1) * r + 1.67638483018380384940e0
        below = (below * r + 2.05319162663775882187e0) * r + 1.0
    else:
        r -= 5.0
        above = 2.01033439929228813265e-7 * r + 2.71155556874348757815e-5
        above = (above * r + 1.24266094738807843860e-3) * r + 2.65321895265761230930e-2
        above = (above * r + 2.96560571828504891230e-1) * r + 1.78482653991729133580e0
        above = (above * r + 5.46378491116411436990e0) * r + 6.65790464350110377720e0
        below = 2.04426310338993978564e-15 * r + 1.42151175831644588870e-7
        below = (below * r + 1.84631831751005468180e-5) * r + 7.86869131145613259100e-4
        below = (below * r + 1.48753612908506148525e-2) * r + 1.36929880922735805310e-1
        below = (below * r + 5.99832206555887937690e-1) * r + 1.0
    return above / below if q > 0.0 else -above / below


# ---------------------------------------------------------------- arrays


def elementwise(function: Callable[[Floats], Floats], values: ArrayLike) -> Floats:
    """Apply one of the functions below to an array of any shape."""
    array = np.asarray(values, dtype=np.float64)
    return function(array.ravel()).reshape(array.shape)


@compiled
def log_each(values: Floats) -> Floats:
    """Return the natural logarithm of every value; shape (n,)."""
    result = np.empty(len(values))
    for i in range(len(values)):
        result[i] = log(values[i])
    return result


@compiled
def log1p_each(values: Floats) -> Floats:
    """Return log(1 + x) of every value; shape (n,)."""
    result = np.empty(len(values))
    for i in range(len(values)):
        result[i] = log1p(values[i])
    return result


@compiled
def exp_each(values: Floats) -> Floats:
    """Return e^x of every value; shape (n,)."""
    result = np.empty(len(values))
    for i in range(len(values)):
        result[i] = exp(values[i])
    return result


@compiled
def cos_sin_each(turns: Floats) -> Floats:
    """Return the cosines and sines of angles in full turns; shapes (n,) and (n, 2)."""
    result = np.empty((len(turns), 2))
    for i in range(len(turns)):
        result[i, 0], result[i, 1] = cos_sin(turns[i])
    return result


@compiled
def normal_quantile_each(values: Floats) -> Floats:
    """Return the standard normal quantile of every probability; shape (n,)."""
    result = np.empty(len(values))
    for i in range(len(values)):
        result[i] = normal_quantile(values[i])
    return result
