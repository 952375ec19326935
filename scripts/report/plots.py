"""PNG plots of experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str], path: Path) -> None:
    """Plot a confusion matrix: true classes in rows, predicted classes in columns, coloured by the share of the row.

    Classes that never occur are left out; counts are printed for up to 24 classes.
    """
    table = np.asarray(counts, float)
    occurring = np.flatnonzero(table.sum(axis=0) + table.sum(axis=1))
    table, names = table[np.ix_(occurring, occurring)], [names[int(index)] for index in occurring]
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    side = min(12.0, 2.5 + 0.42 * len(names))
    figure, axes = _figure(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= 24:
        for row, column in np.argwhere(table > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", fontsize=7, color=color)
    figure.savefig(path)


def curves(x: Sequence[float], lines: Mapping[str, Sequence[float]], x_label: str, y_label: str, path: Path) -> None:
    """Plot one labelled line per name over `x`."""
    figure, axes = _figure(6.4, 4.0)
    for (name, y), marker in zip(lines.items(), "osD^vP*X" * len(lines), strict=False):
        axes.plot(x, y, marker=marker, markersize=5, label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, drawn without a display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
