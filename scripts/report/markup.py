"""Pieces of HTML that the report is put together from, and numbers as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

PALETTE = ("#3b82f6", "#f08c2e", "#16a37b", "#d6539b", "#8b6cf0", "#b08a1e", "#1ba3c6", "#e25555")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out cells that are HTML already; each carries its column's name for narrow screens."""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = ""
    for row in rows:
        cells = (f"<td data-label='{name}'><div>{cell}</div></td>" for name, cell in zip(head, row, strict=True))
        body += f"<tr>{''.join(cells)}</tr>"
    return f"<div class='wide'><table><tr>{top}</tr>{body}</table></div>"


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name; they begin anew where there are too few."""
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}


def legend(colours: dict[str, str]) -> str:
    """Say which name has which colour."""
    return (
        f"<div class='legend'>{''.join(f'<span>{chip(c)}{escape(name)}</span>' for name, c in colours.items())}</div>"
    )


def chip(colour: str) -> str:
    """Draw a small square of a colour."""
    return f"<i class='chip' style='background:{colour}'></i>"


def si(number: float) -> str:
    """Return 1.5M for 1,500,000."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if float(f"{number:.3g}") >= size:  # 999,900 is 1M, not 1000k
            return f"{number / size:.3g}{suffix}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Return hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s" if minutes else f"{seconds:.3g}s"


def span(numbers: Sequence[float], form: Callable[[float], str] = str) -> str:
    """Return the least and the greatest number, or the one that they all are."""
    low, high = form(min(numbers)), form(max(numbers))
    return low if low == high else f"{low} to {high}"
