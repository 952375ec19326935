"""Learning curves of runs as one picture, for documents outside the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from networks.files import write_atomically
from scripts.report.charts import assign_colours, draw_learning_curves, smoothing_window
from scripts.report.page import default_title, read_runs
from scripts.report.run_data import ReportError, group_runs

ENDINGS = (".svg", ".png")
DOTS = 200
"""Games drawn as dots, of all runs together; they are most of an SVG's size."""


def check_picture(path: Path) -> None:
    """Raise ReportError unless `path` ends in .svg or .png and lies in a folder that exists."""
    if path.suffix.lower() not in ENDINGS:
        raise ReportError(f"{path} must end in {' or '.join(ENDINGS)}; --picture takes its format from the ending")
    if path.is_dir():
        raise ReportError(f"{path} is a folder; --picture names the picture's file")
    if not path.parent.is_dir():
        raise ReportError(f"{path.parent} is not a folder; make it first, or give --picture another one")


def write_picture(runs: Sequence[Path], out: Path, *, title: str | None = None, allow_mixed: bool = False) -> Path:
    """Draw the training returns of run folders over env steps into `out`, an SVG or PNG, and return `out`.

    Raises ReportError as `write_report` does, and if no game has ended.
    """
    check_picture(out)
    data = read_runs(runs, allow_mixed)
    groups = [group for group in group_runs(data) if len(group.scores)]
    if not groups:
        raise ReportError("no game of these runs has ended, so there is no curve to draw")

    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    colours, window = assign_colours(group.label for group in groups), smoothing_window(groups)
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "joypad", "font.family": "sans-serif"}
    with rc_context(settings):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained", dpi=150)
        axes = figure.subplots()
        draw_learning_curves(axes, groups, colours, "env steps", window, dots=max(DOTS // len(data), 20))
        axes.set_title(title or default_title(data), loc="left", parse_math=False)  # a game's name may hold a $
        axes.set_xlabel("env steps")
        axes.set_ylabel("episode return" + (f", mean of {window} games" if window > 1 else ""))
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if len(groups) > 1:
            lines = [Line2D([], [], color=colours[group.label], linewidth=2) for group in groups]
            legend = axes.legend(lines, [group.label for group in groups], frameon=False)
            for text in legend.get_texts():
                text.set_parse_math(False)
        buffer = io.BytesIO()
        kind = out.suffix.lower().removeprefix(".")
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_atomically(out, buffer.getvalue())
    return out
