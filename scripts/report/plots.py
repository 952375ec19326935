"""Pictures of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix: rows are what it was, columns what it was taken for, in shares of the row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = np.asarray(counts, float)
    shown = np.flatnonzero(table.sum(axis=0) + table.sum(axis=1))
    table, names = table[np.ix_(shown, shown)], [names[int(index)] for index in shown]
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    side = min(12.0, 2.5 + 0.42 * len(names))
    figure = Figure(figsize=(side, side), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("was")
    if len(names) <= 24:
        for row, column in np.argwhere(table > 0):
            dark = shares[row, column] > 0.5
            color = "white" if dark else "black"
            axes.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", fontsize=7, color=color)
    figure.savefig(path)


def curves(x: Sequence[float], lines: Mapping[str, Sequence[float]], across: str, up: str, path: Path) -> None:
    """Draw one line for each name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (name, y), mark in zip(lines.items(), "osD^vP*X" * len(lines), strict=False):
        axes.plot(x, y, marker=mark, markersize=5, label=name)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)
