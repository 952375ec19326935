"""Learning curves as inline SVG, for a page that loads nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from scripts.report import statistics as st
from scripts.report.statistics import Group, RunData

INK, GRID = "#010203", "#010204"
"""Stand-ins that become the page's own colours, light or dark, once a chart is drawn."""


AXES = ("env steps", "wall-clock", "updates")
"""What a return can be drawn over."""


def chart(groups: Sequence[Group], colours: dict[str, str], axis: str, window: int) -> str:
    """Draw episode returns over one of AXES, as inline SVG."""
    unit, label = 1.0, axis
    if axis == "wall-clock":
        longest = max(run.wall_seconds for group in groups for run in group.runs)
        unit, label = next((u for u in ((3600.0, "hours"), (60.0, "minutes")) if longest >= 2 * u[0]), (1.0, "seconds"))

    def paint(axes: Any) -> None:
        for group in groups:
            _draw_group(axes, group, colours[group.label], axis, unit, window)
        axes.xaxis.set_major_formatter("{x:g}" if axis == "wall-clock" else EngFormatter(sep=""))

    return _picture(paint, label, "episode return", f"return over {label}")


def profile_chart(sides: Mapping[str, st.Tasks], colours: dict[str, str]) -> str:
    """Draw the share of scores above each threshold, with 95 % bootstrap bands, as inline SVG; scores by name."""
    highest = max(float(scores.max()) for tasks in sides.values() for scores in tasks)
    thresholds, rng = np.linspace(0.0, max(1.0, highest) * 1.02, 200), np.random.default_rng(0)

    def paint(axes: Any) -> None:
        for name, tasks in sides.items():
            shares = st.performance_profile(st.resample(tasks, 500, rng), thresholds)
            low, high = np.percentile(shares, (2.5, 97.5), axis=0)
            axes.fill_between(thresholds, low, high, color=colours[name], alpha=0.2, linewidth=0)
            axes.plot(thresholds, st.performance_profile(tasks, thresholds), color=colours[name], linewidth=2)

    return _picture(paint, "human-normalised score", "share of runs above it", "performance profiles")


def _picture(paint: Callable[[Any], None], x_label: str, y_label: str, told: str) -> str:
    """Return as inline SVG what `paint` draws on the axes that it is given; `told` is for who cannot see it."""
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "joypad", "font.size": 9, "path.simplify": True}
    with rc_context(settings):
        figure = Figure(figsize=(4.8, 3.1), layout="constrained")
        axes = figure.subplots()
        axes.xaxis.set_major_locator(MaxNLocator(6))
        paint(axes)
        axes.set_xlabel(x_label, color=INK)
        axes.set_ylabel(y_label, color=INK)
        axes.tick_params(colors=INK, length=0)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # two charts on a page would share these
    svg = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{told}">', svg)
    return svg.replace(INK, "var(--soft)").replace(GRID, "var(--line)")


def _along(run: RunData, rows: np.ndarray, axis: str) -> np.ndarray:
    """Return where on `axis` games or evaluations lie; updates are counted at some steps, and even in between."""
    if axis == "updates":
        return np.interp(rows[:, 0], np.append(0.0, run.updates[:, 0]), np.append(0.0, run.updates[:, 2]))
    return rows[:, AXES.index(axis)]


def _draw_group(axes: Any, group: Group, colour: str, axis: str, unit: float, window: int) -> None:
    rng = np.random.default_rng(0)
    curves = []
    for run in group.runs:
        if not len(run.games):
            continue
        x, smooth = _along(run, run.games, axis) / unit, st.running_mean(run.games[:, 2], window)
        dots = np.linspace(0, len(x) - 1, min(len(x), 400)).astype(int)
        axes.plot(x[dots], run.games[dots, 2], ".", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
        alone = len(group.runs) == 1
        axes.plot(x[dots], smooth[dots], color=colour, linewidth=1.7 if alone else 0.7, alpha=1 if alone else 0.45)
        axes.plot(_along(run, run.evals, axis) / unit, run.evals[:, 2], "D", color=colour, markersize=3.5)
        curves.append((x, smooth))
    if len(curves) < 2:
        return
    grid = np.linspace(max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves), 200)
    seeds = np.stack([np.interp(grid, x, smooth) for x, smooth in curves], axis=-1)  # [grid, seeds]
    draws = seeds[:, rng.integers(len(curves), size=(1000, len(curves)))]  # [grid, reps, seeds]
    low, high = np.percentile(st.iqm([draws]), (2.5, 97.5), axis=-1)
    axes.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(grid, st.iqm([seeds]), color=colour, linewidth=2.2)
