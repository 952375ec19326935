"""Tables on the console: figures, intervals and their width."""

from __future__ import annotations

import os

from rich.console import Console


def wide_console() -> Console:
    """Return a console that does not squeeze a table into 80 columns where nobody's window asks for that."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    return console


def number(value: float | None) -> str:
    """Return a figure as a table shows it: two decimals while they matter."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def interval(ends: tuple[float, float] | None) -> str:
    """Return an interval as a table shows it."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else "-"
