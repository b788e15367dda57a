"""Quantities as text: dollars, percent, gigabytes, and figures with their units."""

from math import floor, log10


def dollars(amount: float) -> str:
    """Four significant digits, at least two decimals: $2.730, $0.7825, $28.99, $1,234.56, $2.954e-05."""
    rounded = _to_four_digits(amount)
    if rounded < 1e-3 or rounded >= 1e9:
        return f"${amount:.4g}"
    return f"${amount:,.{max(2, 3 - floor(log10(rounded)))}f}"


def whole_dollars(amount: float) -> str:
    """Dollars without cents, from 100 on: $56,064."""
    return f"${amount:,.0f}" if 100 <= amount < 1e9 else dollars(amount)


def number(value: float) -> str:
    """Four significant digits; no decimals from 1,000: 16.02, 0.8379, 12,340."""
    return f"{value:,.0f}" if abs(_to_four_digits(value)) >= 1000 else f"{value:.4g}"


def change_of(fraction: float) -> str:
    """A relative change in percent: `+12.3%`, `-4.0%`, and `0.0%` without a sign."""
    text = f"{fraction:+.1%}"
    return "0.0%" if text in {"+0.0%", "-0.0%"} else text


def gigabytes(amount: float) -> str:
    """Decimal gigabytes, as datasheets count: 405 GB, 1,024 GB, 0.54 GB."""
    value = amount / 1e9
    return f"{value:,.0f} GB" if value >= 100 else f"{value:.3g} GB"


_SCALES = {
    "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "$/year": ((1e6, "M$/year"), (1.0, "$/year")),
}


def quantity(value: float, unit: str) -> str:
    """A figure with four significant digits and a scaled unit: 131.1 kB/token, 17.22 ms."""
    base, slash, rest = unit.partition("/")
    scales = _SCALES.get(unit) or _SCALES.get(base)
    if scales is None:
        text = f"{value:,.4g}" if abs(value) >= 1e6 or abs(value) < 1e3 else f"{value:,.0f}"
        return f"{text} {unit}".strip()
    rounded = abs(_to_four_digits(value))
    size, name = next(((size, name) for size, name in scales if rounded >= size), scales[-1])
    suffix = f"/{rest}" if slash and unit not in _SCALES else ""
    return f"{value / size:.4g} {name}{suffix}"


def _to_four_digits(value: float) -> float:
    """A figure as it will be read, by which its unit and its decimals are chosen: 999.96 as 1,000."""
    return float(f"{value:.4g}")
