"""Converts quantities such as ``15 GHz``, ``22 dBm`` and ``1.4 MB/s`` to floats in SI units.

pint parses the units. Its registry contains only the units of this field, with information as a
separate dimension, so that a clock rate cannot be read as a data rate. Decimal arithmetic does the
rest: ``17.1 GHz`` is exactly 17.1e9, and decibels give the same bits with every C library. Units of
the results: seconds, metres, metres a second, hertz (cycles a second), bits, bits a second, watts,
joules.
"""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mecsim.support.text import did_you_mean
from mecsim.support.validation import Within

if TYPE_CHECKING:
    from pint import UnitRegistry

_DEFINITIONS: Final = """
micro- = 1e-6 = µ- = μ- = u-
milli- = 1e-3 = m-
nano- = 1e-9 = n-
kilo- = 1e3 = k- = K-
mega- = 1e6 = M-
giga- = 1e9 = G-
tera- = 1e12 = T-
kibi- = 1024 = Ki-
mebi- = 1048576 = Mi-
gibi- = 1073741824 = Gi-
second = [time] = s = sec
minute = 60 * second = min
hour = 60 * minute = h
metre = [length] = m = meter
gram = [mass] = g
hertz = 1 / second = Hz
joule = 1000 * gram * metre ** 2 / second ** 2 = J
watt = joule / second = W
watt_hour = 3600 * joule = Wh
bit = [information]
byte = 8 * bit = B
bit_per_second = bit / second = bps
decibelmilliwatt = 1e-3 * watt = dBm
decibelwatt = watt = dBW
"""

_LOGARITHMIC: Final = ("dBm", "dBW")
"""Their number is converted before their unit, which stands for that of 0 dB."""
_MAX_DECIBELS: Final = 3000
"""More than any power, and within the range of a float."""
_DIGITS: Final = Context(prec=40)
_THOUSANDTH: Final = re.compile(r"m(?=(?:bits?|bytes?|B|bps|Hz|hertz)\b)")
"""The prefix of a unit of which nobody means the thousandth part."""
_QUANTITY: Final = re.compile(
    r"\s*(?P<number>[+-]?(?:\d(?:_?\d)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>\S.{0,23})?\s*",
    re.ASCII,
)
_UNIT: Final = re.compile(r"[A-Za-zµμ_]+(?:\s*/\s*[A-Za-zµμ_]+)?")


@cache
def _registry() -> UnitRegistry[Any]:
    import pint  # noqa: PLC0415 - 0.2 s, and only a scenario with units needs it

    registry: UnitRegistry[Any] = pint.UnitRegistry(None, autoconvert_offset_to_baseunit=True)
    for line in _DEFINITIONS.strip().splitlines():
        registry.define(line)
    return registry


def parse(text: str, unit: str) -> float:
    """Convert a quantity to the SI unit ``unit``.

    Args:
        text: A number with a unit, or a number alone, which is in ``unit``.
        unit: A key of the table of examples, such as ``"bit/s"``.

    Raises:
        ValueError: If ``text`` is not a finite number with a unit of the same dimension.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"is not a number with a unit; write for example {example(unit)!r}")
    try:
        number, name = Decimal(match["number"]), match["unit"]
        value = float(number) if name is None else _convert(number, name.strip(), unit)
    except ArithmeticError:  # an exponent that not even a decimal number can have
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _convert(number: Decimal, name: str, unit: str) -> float:
    import pint  # noqa: PLC0415 - see _registry

    if not _UNIT.fullmatch(name):
        raise ValueError(f"has no unit that mecsim knows ({name!r}); write {example(unit)!r}")
    if _THOUSANDTH.match(name):
        meant = _THOUSANDTH.sub("M", name)
        raise ValueError(f"has the unit {name!r}, with m for a thousandth; write {meant!r}")
    registry = _registry()
    numerator, _, denominator = (part.strip() for part in name.partition("/"))
    try:
        divisor = registry.parse_units(denominator) if denominator else 1
        if numerator in _LOGARITHMIC:
            if abs(number) > _MAX_DECIBELS:
                return math.inf
            number = _DIGITS.power(Decimal(10), number / 10)
        factor = (registry.Quantity(1.0, numerator) / divisor).to(unit).magnitude
        return float(number * Decimal(repr(factor)))
    except (pint.UndefinedUnitError, ValueError) as error:  # ValueError for "nan"
        known = f"{_meant(name, unit)}write for example {example(unit)!r}"
        raise ValueError(f"has no unit that mecsim knows ({name!r}); {known}") from error
    except pint.DimensionalityError as error:
        wanted = f"a quantity in {unit or 'no unit'} is needed"
        raise ValueError(
            f"has the wrong dimension; {wanted}, for example {example(unit)!r}"
        ) from error


_EXAMPLES: Final = {
    "Hz": "15 GHz",
    "W": "22 dBm",
    "W/Hz": "-174 dBm/Hz",
    "bit/s": "1.4 MB/s",
    "m": "750 m",
    "m/s": "1.4 m/s",
    "s": "0.5 s",
    "J": "2 kJ",
    "bit": "24 kbit",
}


_SPELLINGS: Final = {
    "Hz": "Hz kHz MHz GHz THz",
    "W": "W mW kW dBm dBW",
    "W/Hz": "W/Hz mW/Hz dBm/Hz dBW/Hz",
    "bit/s": "bit/s kbit/s Mbit/s Gbit/s Tbit/s B/s kB/s MB/s GB/s bps kbps Mbps Gbps",
    "m": "m mm km",
    "m/s": "m/s km/h",
    "s": "s ms µs ns min h",
    "J": "J mJ kJ MJ Wh kWh",
    "bit": "bit kbit Mbit Gbit B kB MB GB",
}
"""Usual units of each dimension."""


def _meant(name: str, unit: str) -> str:
    """Return a hint for a unit that is unknown because of its case or a wrong letter."""
    wrong = "".join(name.split()).lower().replace("bits", "bit")
    spellings = _SPELLINGS[unit].split()
    same = [each for each in spellings if wrong in (each.lower(), each.lower().replace("bit", "b"))]
    if same:
        return f"did you mean {' or '.join(map(repr, same))}? "
    return did_you_mean(name, spellings)


def spellings(unit: str) -> list[str]:
    """Return usual units of the dimension of an SI unit."""
    return _SPELLINGS[unit].split()


def example(unit: str) -> str:
    """Return an example of a quantity, for messages and for the JSON Schema."""
    return _EXAMPLES[unit]


class Unit:
    """Pydantic annotation: a number (SI) or a string with a unit; holds a float in ``unit``."""

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Put the parser in front of the float and its bounds."""
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe both ways of writing a quantity."""
        text = {"type": "string", "examples": [example(self.unit)]}
        return {"anyOf": [handler(schema), text], "description": f"in {self.unit}, or with a unit"}

    def _read(self, value: object) -> object:
        return parse(value, self.unit) if isinstance(value, str) else value


LARGEST: Final = 1e30
"""Above every quantity; squares and products of such numbers and their inverses are finite."""


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Finite = Annotated[_Number, Within(-LARGEST, LARGEST)]
NonNegative = Annotated[_Number, Within(0, LARGEST)]
Positive = Annotated[_Number, Within(1 / LARGEST, LARGEST, above=0)]

Hertz = Annotated[Positive, Unit("Hz")]
Watts = Annotated[Positive, Unit("W")]
NonNegativeWatts = Annotated[NonNegative, Unit("W")]
WattsPerHertz = Annotated[Positive, Unit("W/Hz")]
BitsPerSecond = Annotated[Positive, Unit("bit/s")]
NonNegativeHertz = Annotated[NonNegative, Unit("Hz")]
NonNegativeBitsPerSecond = Annotated[NonNegative, Unit("bit/s")]
Metres = Annotated[NonNegative, Unit("m")]
PositiveMetres = Annotated[Positive, Unit("m")]
Coordinate = Annotated[Finite, Unit("m")]
MetresPerSecond = Annotated[Positive, Unit("m/s")]
Seconds = Annotated[Positive, Unit("s")]
NonNegativeSeconds = Annotated[NonNegative, Unit("s")]
Joules = Annotated[Positive, Unit("J")]
