"""PNG and SVG plots of experiments."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("tab:blue", "tab:orange")
"""Ours and Stable-Baselines3's in charts of the results."""


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


def learning_curves_svg(lines: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], title: str) -> str:
    """Return an SVG of learning curves: `lines` has a list of (env steps, scores) by name, one pair for each seed."""
    from matplotlib.ticker import EngFormatter

    figure, axes = _figure(4.4, 2.8)
    for (name, seeds), colour in zip(lines.items(), COLOURS * len(lines), strict=False):
        for x, y in seeds:
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.4)
        grid = np.linspace(max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds), 100)
        axes.plot(grid, np.mean([np.interp(grid, x, y) for x, y in seeds], axis=0), color=colour, label=name)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("env steps")
    axes.set_ylabel("return, last 100 games")
    axes.legend(frameon=False)
    return _svg(figure, axes, title)


def seed_scores_svg(scores: Mapping[str, Sequence[tuple[float, float]]], title: str) -> str:
    """Return an SVG of the scores of seeds: `scores` has a list of (training score, evaluation) by name."""
    figure, axes = _figure(4.4, 1.6)
    for row, (name, colour) in enumerate(zip(scores, COLOURS * len(scores), strict=False)):
        training, evaluation = np.transpose(scores[name])
        axes.plot(training, np.full(len(training), row - 0.12), "o", color=colour, alpha=0.8)
        axes.plot(evaluation, np.full(len(evaluation), row + 0.12), "o", color=colour, fillstyle="none")
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlabel("mean return")
    return _svg(figure, axes, title)


def _svg(figure: Figure, axes: Axes, title: str) -> str:
    """Return the figure as SVG; the same figure gives the same text."""
    from matplotlib import rc_context

    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "joypad", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, drawn without a display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
