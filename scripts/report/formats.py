"""Numbers and durations for people to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def si(number: float) -> str:
    """Return 1.5M for 1,500,000."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if float(f"{number:.3g}") >= size:  # 999,900 becomes 1M, not 1000k
            return f"{number / size:.3g}{suffix}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Return hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s" if minutes else f"{seconds:.3g}s"


def value_range(numbers: Sequence[float], form: Callable[[float], str] = str) -> str:
    """Return "smallest to largest", or one number if both look the same."""
    low, high = form(min(numbers)), form(max(numbers))
    return low if low == high else f"{low} to {high}"
