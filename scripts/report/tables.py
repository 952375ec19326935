"""Console output: lines, and tables with numbers and intervals."""

from __future__ import annotations

import os

from rich.console import Console


def wide_console() -> Console:
    """Return a console; 200 columns wide if output goes to a file or pipe and COLUMNS is not set."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200  # rich would squeeze tables into 80 columns
    return console


def print_line(console: Console, line: str) -> None:
    """Print a line as it is: no wrapping, markup or highlighting."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def number(value: float | None) -> str:
    """Return a number with two decimals, or none from 1,000 on; "-" for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def interval(ends: tuple[float, float] | None) -> str:
    """Return "[low, high]"; "-" for None."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else "-"
