"""Elementary functions: accurate, the same for all, and right at the edges."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mecsim.support import portable_math
from mecsim.support.arrays import Floats
from tests.helpers.examples import examples

Function = Callable[[float], float]
INF = math.inf


def off(found: float, right: float) -> float:
    """The distance in units of the last place of the right value."""
    return 0.0 if found == right else abs(found - right) / math.ulp(right)


PAIRS: dict[str, tuple[Function, Function, float, float]] = {  # and from where to where
    "log": (portable_math.log, math.log, 5e-324, 1.7e308),
    "log1p": (portable_math.log1p, math.log1p, -1 + 2**-53, 1.7e308),
    "exp": (portable_math.exp, math.exp, -745.13, 709.78),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_within_one_ulp_of_libm(name: str) -> None:
    function, reference, low, high = PAIRS[name]

    @settings(max_examples=examples(500), deadline=None, derandomize=True)
    @given(
        st.floats(low, high)
        | st.floats(max(low, -2), 2)
        | st.floats(-16, 0).map(lambda x: 1 + 10**x)
        | st.floats(-300, 2).map(lambda x: 10**x)
    )
    @example(math.sqrt(0.5))
    @example(math.sqrt(2))
    @example(math.nextafter(1, 0))
    @example(2.0**-1022)
    def check(x: float) -> None:
        assert off(function(x), reference(x)) <= 1

    check()


@pytest.mark.parametrize(
    ("name", "exact", "low", "high"),
    [
        ("log", lambda x: x.ln(), 1e-300, 1e300),
        ("log", lambda x: x.ln(), 0.4, 2.6),
        ("log1p", lambda x: (1 + x).ln(), -0.9, 3.0),
        ("exp", lambda x: x.exp(), -700, 700),
        ("exp", lambda x: x.exp(), -1, 1),
    ],
)
def test_its_error_is_below_one_ulp(
    name: str, exact: Callable[[Decimal], Decimal], low: float, high: float
) -> None:
    values = np.random.default_rng(1).uniform(low, high, 1000).tolist()
    with localcontext(prec=60):
        for x in values:
            right = exact(Decimal(x))
            error = abs(Decimal(PAIRS[name][0](x)) - right)
            assert error < Decimal(math.ulp(float(right)))


@pytest.mark.parametrize(
    ("function", "x", "right"),
    [
        (portable_math.log, 1.0, 0.0),
        (portable_math.log, 0.0, -INF),
        (portable_math.log, -0.0, -INF),
        (portable_math.log, INF, INF),
        (portable_math.log, 5e-324, math.log(5e-324)),
        (portable_math.log1p, 0.0, 0.0),
        (portable_math.log1p, -1.0, -INF),
        (portable_math.log1p, INF, INF),
        (portable_math.log1p, 1e-20, 1e-20),
        (portable_math.log1p, 1e300, math.log(1e300)),
        (portable_math.exp, 0.0, 1.0),
        (portable_math.exp, INF, INF),
        (portable_math.exp, -INF, 0.0),
        (portable_math.exp, 710.0, INF),
        (portable_math.exp, -746.0, 0.0),
        (portable_math.exp, -745.0, 5e-324),
        (portable_math.normal_quantile, 0.5, 0.0),
    ],
)
def test_edges(function: Function, x: float, right: float) -> None:
    assert function(x) == right


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (portable_math.log, -1.0),
        (portable_math.log1p, -2.0),
        (portable_math.log, -INF),
        (portable_math.log, math.nan),
        (portable_math.log1p, math.nan),
        (portable_math.exp, math.nan),
    ],
)
def test_undefined_values(function: Function, x: float) -> None:
    assert math.isnan(function(x))


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(st.floats(0, 1) | st.sampled_from([n / 8 for n in range(9)]))
def test_cosine_and_sine_of_turns(turns: float) -> None:
    """The reference rounds an angle of up to 2π before it begins; quarters are exact here."""
    cosine, sine = portable_math.cos_sin(turns)
    assert cosine == pytest.approx(math.cos(2 * math.pi * turns), abs=1e-15)
    assert sine == pytest.approx(math.sin(2 * math.pi * turns), abs=1e-15)
    assert cosine * cosine + sine * sine == pytest.approx(1, abs=5e-16)
    if 4 * turns % 1 == 0:
        assert {abs(cosine), abs(sine)} == {0.0, 1.0}


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
@example(2.0**-53)
@example(0.075)
@example(0.925)
def test_normal_quantiles(p: float) -> None:
    right = NormalDist().inv_cdf(p)
    assert portable_math.normal_quantile(p) == pytest.approx(right, rel=2e-15)


def test_the_bits_are_those_of_every_machine() -> None:
    """Computed once; a compiler that reorders or fuses operations would change them."""
    many: Floats = np.arange(1, 4001, dtype=np.float64) * 2.0**-12
    found = [
        portable_math.log_each(many),
        portable_math.log1p_each(many - 0.5),
        portable_math.exp_each(40 * many - 20),
        portable_math.normal_quantile_each(many),
        portable_math.cos_sin_each(many),
    ]
    digests = [hashlib.sha256(values.tobytes()).hexdigest()[:8] for values in found]
    assert digests == ["4ec4d28a", "512a5248", "39d1e70c", "e13f68d4", "8b83626b"]


def test_every_shape_is_taken() -> None:
    values = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]).T
    found = portable_math.elementwise(portable_math.log_each, values)
    assert found.shape == (3, 2)
    assert found[1].tolist() == [portable_math.log(2.0), portable_math.log(16.0)]
    assert portable_math.elementwise(portable_math.exp_each, 0.0).shape == ()
