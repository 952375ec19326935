"""Learning curves and performance profiles as inline SVG, in the page's own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup

from scripts.report import statistics as st
from scripts.report.run_data import LAST_GAMES, Group, RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#3b82f6", "#f08c2e", "#16a37b", "#d6539b", "#8b6cf0", "#b08a1e", "#1ba3c6", "#e25555")
INK, GRID = "#010203", "#010204"
"""Placeholders in a drawing, replaced by the page's CSS colours, which follow its light or dark theme."""

POINTS = 400
"""Points of a run in a drawing."""

XAxis = Literal["env steps", "wall-clock", "updates"]
X_AXES: tuple[XAxis, ...] = ("env steps", "wall-clock", "updates")


def assign_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name; the palette repeats."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def smoothing_window(groups: Sequence[Group]) -> int:
    """Return the number of games that learning curves are averaged over; 0 if no game has ended."""
    lengths = [len(run.games) for group in groups for run in group.runs if len(run.games)]
    return int(np.clip(min(lengths) // 20, 1, LAST_GAMES)) if lengths else 0


def learning_curves(groups: Sequence[Group], colours: Mapping[str, str], x_axis: XAxis, window: int) -> Markup:
    """Return the learning curves as SVG for the page."""
    scale, label = 1.0, str(x_axis)
    if x_axis == "wall-clock":
        longest = max(run.wall_seconds for group in groups for run in group.runs)
        units = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
        scale, label = next((unit for unit in units if longest >= 2 * unit[0]), units[-1])

    def draw(axes: Axes) -> None:
        draw_learning_curves(axes, groups, colours, x_axis, window, scale)

    return _svg(draw, label, "episode return", f"return over {label}")


def draw_learning_curves(
    axes: Axes,
    groups: Sequence[Group],
    colours: Mapping[str, str],
    x_axis: XAxis,
    window: int,
    scale: float = 1.0,
    dots: int = POINTS,
) -> None:
    """Draw training returns, their running mean over `window` games, and evaluations.

    `dots` is the most games drawn as dots of each run.
    """
    from matplotlib.ticker import EngFormatter

    for group in groups:
        _draw_group(axes, group, colours[group.label], x_axis, scale, window, dots)
    axes.xaxis.set_major_formatter("{x:g}" if x_axis == "wall-clock" else EngFormatter(sep=""))


def performance_profiles(scores: Mapping[str, st.Tasks], colours: Mapping[str, str]) -> Markup:
    """Draw the share of runs above each human-normalised score, with 95 % bootstrap bands; `scores` by name."""
    highest = max(float(task.max()) for tasks in scores.values() for task in tasks)
    thresholds, rng = np.linspace(0.0, max(1.0, highest) * 1.02, 200), np.random.default_rng(0)

    def draw(axes: Axes) -> None:
        for name, tasks in scores.items():
            if max(map(len, tasks)) > 1:
                low, high = st.bootstrap_bands(tasks, lambda t: st.performance_profile(t, thresholds).T, rng, 500)
                axes.fill_between(thresholds, low, high, color=colours[name], alpha=0.2, linewidth=0)
            axes.plot(thresholds, st.performance_profile(tasks, thresholds), color=colours[name], linewidth=2)

    return _svg(draw, "human-normalised score", "share of runs above it", "performance profiles")


def _draw_group(axes: Axes, group: Group, colour: str, x_axis: XAxis, scale: float, window: int, dots: int) -> None:
    curves = []
    single = len(group.runs) == 1
    for run in (run for run in group.runs if len(run.games)):
        x, smooth = x_values(run, run.games, x_axis) / scale, st.running_mean(run.games[:, 2], window)
        shown, thinned = (np.linspace(0, len(x) - 1, min(len(x), count)).astype(int) for count in (dots, POINTS))
        axes.plot(x[shown], run.games[shown, 2], ".", color=colour, alpha=0.35, markersize=3, markeredgewidth=0)
        width, alpha = (1.7, 1.0) if single else (0.7, 0.45)
        axes.plot(x[thinned], smooth[thinned], color=colour, linewidth=width, alpha=alpha)
        axes.plot(x_values(run, run.evals, x_axis) / scale, run.evals[:, 2], "D", color=colour, markersize=3.5)
        curves.append((x, smooth))
    if len(curves) < 2:
        return
    grid = np.linspace(max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves), 200)
    seeds = np.stack([np.interp(grid, x, smooth) for x, smooth in curves], axis=-1)  # [grid, seeds]
    low, high = st.bootstrap_bands([seeds], st.iqm, np.random.default_rng(0), 1000)
    axes.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(grid, st.iqm([seeds]), color=colour, linewidth=2.2)


def x_values(run: RunData, rows: np.ndarray, x_axis: XAxis) -> np.ndarray:
    """Return the x value of games or evaluations [N, 3]; updates are interpolated between the lines that log them."""
    if x_axis == "updates":
        return np.interp(rows[:, 0], np.append(0.0, run.updates[:, 0]), np.append(0.0, run.updates[:, 2]))
    return rows[:, X_AXES.index(x_axis)]


def _svg(draw: Callable[[Axes], None], x_label: str, y_label: str, description: str) -> Markup:
    """Return inline SVG of the axes that `draw` fills; `description` is read to people who cannot see it."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "joypad", "font.size": 9, "path.simplify": True}
    with rc_context(settings):
        figure = Figure(figsize=(4.8, 3.1), layout="constrained")
        axes = figure.subplots()
        axes.xaxis.set_major_locator(MaxNLocator(6))
        draw(axes)
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
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids would repeat between the charts of a page
    opening = rf'<svg viewBox="\1" role="img" aria-label="{description}">'
    svg = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', opening, svg)
    return Markup(svg.replace(INK, "var(--soft)").replace(GRID, "var(--line)"))
