"""Quantities as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim.scenario.units import example, parse
from tests.helpers.examples import examples

UNITS = ("Hz", "W", "W/Hz", "bit/s", "m", "s", "J", "bit")

TABLE = [
    ("15 GHz", "Hz", 15e9),
    ("17.1 GHz", "Hz", 17.1e9),  # exactly: 17.1 * 1e9 in binary is 17100000000.000002
    ("1e3 MHz", "Hz", 1e9),
    ("2MHz", "Hz", 2e6),
    ("15e9", "Hz", 15e9),
    ("+.5 kHz", "Hz", 500.0),
    ("1_000 Hz", "Hz", 1000.0),
    ("100 mW", "W", 0.1),
    ("5 mW", "W", 0.005),
    ("0 dBm", "W", 1e-3),
    ("30 dBm", "W", 1.0),
    ("0 dBW", "W", 1.0),
    ("-30 dBm/Hz", "W/Hz", 1e-6),
    ("1 nW/Hz", "W/Hz", 1e-9),
    ("1.4 MB/s", "bit/s", 11.2e6),
    ("1 Gbit/s", "bit/s", 1e9),
    ("1 Gbit / s", "bit/s", 1e9),
    ("16 Mbps", "bit/s", 16e6),
    ("1 MiB/s", "bit/s", 8 * 2**20),
    ("6 KB/min", "bit/s", 800.0),
    ("24 kbit", "bit", 24_000.0),
    ("1 KiB", "bit", 8192.0),
    ("750 m", "m", 750.0),
    ("-1.5 km", "m", -1500.0),
    ("0.5 s", "s", 0.5),
    ("250 ms", "s", 0.25),
    ("3 µs", "s", 3e-6),
    ("3 us", "s", 3e-6),
    ("2 min", "s", 120.0),
    ("1 h", "s", 3600.0),
    ("2 kJ", "J", 2000.0),
    ("1 Wh", "J", 3600.0),
    (" 5  s ", "s", 5.0),
]


@pytest.mark.parametrize(("text", "unit", "value"), TABLE)
def test_parse(text: str, unit: str, value: float) -> None:
    assert parse(text, unit) == value


def test_parse_decibels() -> None:
    # 10^2.2 mW = 158.489319246111348520 mW; 10^-17.4 mW/Hz = 3.9810717055349725077e-18 mW/Hz
    assert parse("22 dBm", "W") == 0.158489319246111348520
    assert parse("-174 dBm/Hz", "W/Hz") == 3.9810717055349725077e-21


@pytest.mark.parametrize(
    ("text", "unit", "meant"),
    [
        ("1 mbit/s", "bit/s", "Mbit/s"),
        ("1 mbit / s", "bit/s", "Mbit / s"),
        ("1 mB/s", "bit/s", "MB/s"),
        ("1 mbps", "bit/s", "Mbps"),
        ("8 mbyte", "bit", "Mbyte"),
        ("2 mHz", "Hz", "MHz"),
    ],
)
def test_parse_refuses_thousandths(text: str, unit: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"thousandth; write '{meant}'"):
        parse(text, unit)


@pytest.mark.parametrize(
    ("text", "unit", "meant"),
    [
        ("1 gbit/s", "bit/s", "'Gbit/s'"),
        ("1 Gbits / S", "bit/s", "'Gbit/s'"),
        ("1 Mb/s", "bit/s", "'Mbit/s' or 'MB/s'"),
        ("1 GBPS", "bit/s", "'Gbps'"),
        ("22 dbm", "W", "'dBm'"),
        ("22 dB", "W", "'dBm' or 'dBW'"),
        ("-174 dbm/hz", "W/Hz", "'dBm/Hz'"),
        ("2 MHZ", "Hz", "'MHz'"),
        ("15 ghz", "Hz", "'GHz'"),
        ("750 M", "m", "'m'"),
        ("1 KM", "m", "'km'"),
        ("5 Ms", "s", None),  # megaseconds are a unit
        ("1 mins", "s", None),
        ("5 S", "s", "'s'"),
        ("1 kj", "J", "'kJ'"),
        ("1 WH", "J", "'Wh'"),
        ("24 KBIT", "bit", "'kbit'"),
    ],
)
def test_parse_suggests_the_unit_that_was_meant(text: str, unit: str, meant: str | None) -> None:
    if meant is None:
        assert parse(text, unit) > 0
        return
    with pytest.raises(ValueError, match="no unit that mecsim knows") as caught:
        parse(text, unit)
    assert f"did you mean {meant}? write for example" in str(caught.value)


@pytest.mark.parametrize("unit", UNITS)
def test_examples_can_be_parsed(unit: str) -> None:
    assert parse(example(unit), unit) > 0


@pytest.mark.parametrize(
    ("text", "unit", "problem"),
    [
        ("15 MB", "Hz", "wrong dimension"),
        ("1 bit/s", "Hz", "wrong dimension"),  # information is a dimension of its own
        ("1 Hz", "bit/s", "wrong dimension"),
        ("1 GHz/s", "Hz", "wrong dimension"),
        ("22 dBm", "J", "wrong dimension"),
        ("1 W/dBm", "W", "wrong dimension"),
        ("1 parsec", "m", "no unit that mecsim knows"),
        ("1 ghz", "Hz", "no unit that mecsim knows"),
        ("1 dB", "W", "no unit that mecsim knows"),
        ("1 nan", "s", "no unit that mecsim knows"),
        ("1 s*s", "s", "no unit that mecsim knows"),
        ("1 s**9999999", "s", "no unit that mecsim knows"),
        ("1 __import__('os')", "s", "no unit that mecsim knows"),
        ("1 (s)", "s", "no unit that mecsim knows"),
        ("1 s/s/s", "s", "no unit that mecsim knows"),
        ("1__0 s", "s", "no unit that mecsim knows"),
        ("", "s", "not a number"),
        ("s", "s", "not a number"),
        ("nan", "s", "not a number"),
        ("inf s", "s", "not a number"),
        ("1 s 2 s of a very long text that is no unit", "s", "not a number"),
        ("٣ s", "s", "not a number"),
        ("1e400 s", "s", "not a finite number"),
        ("1e999999999 s", "s", "not a finite number"),
        ("1e99999999999999999999 s", "s", "not a finite number"),
        ("9" * 400, "s", "not a finite number"),
        ("1e9 dBm", "W", "not a finite number"),
        ("-1e99999999 dBm/Hz", "W/Hz", "not a finite number"),
    ],
)
def test_parse_invalid(text: str, unit: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse(text, unit)
    assert "finite" in problem or example(unit) in str(caught.value)


quantities = st.from_regex(
    r"[+-]?[0-9]{1,6}(\.[0-9]{0,4})?([eE][-+]?[0-9]{1,10})?\s?[A-Za-zµ]{0,4}\s?/?\s?[A-Za-z]{0,3}",
    fullmatch=True,
)


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(st.text(max_size=40) | quantities, st.sampled_from(UNITS))
def test_parse_any_text(text: str, unit: str) -> None:
    try:
        value = parse(text, unit)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - there need not be one
    else:
        assert math.isfinite(value)


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(st.floats(min_value=-1e200, max_value=1e200))
def test_parse_number_without_unit_is_exact(value: float) -> None:
    assert parse(repr(value), "s") == value


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(st.decimals(min_value="0.001", max_value="1000", places=4))
def test_parse_unit_is_exact(number: object) -> None:
    assert parse(f"{number} GHz", "Hz") == float(f"{number}e9")
