"""Tables and lines that pretrain.py prints."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from networks.encoders.base import ARCHITECTURES
from scripts.report.tables import wide_console
from scripts.supervised.tasks.base import Goal, SupervisedTask
from scripts.supervised.tasks.registry import TASKS, task_class


def results_table(
    task: SupervisedTask, reports: Mapping[str, Mapping[str, float]], baselines: Mapping[str, Mapping[str, float]]
) -> Table:
    """Return a row for each test set and baseline, with the task's headline metrics and its playing metrics."""
    columns = [*task.headline, *(key for key in reports.get("played", {}) if key not in task.headline)]
    table = Table(box=None)
    table.add_column(f"{task.name}, test examples", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    rows = {**{f"trained, {name}": metrics for name, metrics in reports.items()}, **baselines}
    for name, metrics in rows.items():
        table.add_row(name, *(f"{metrics[key]:.3f}" if key in metrics else "-" for key in columns))
    return table


def goal_lines(goals: tuple[Goal, ...], reports: Mapping[str, Mapping[str, float]], seconds: float) -> list[str]:
    """Return a line for each goal, and one for the training time."""
    lines = []
    for goal in goals:
        test, _, metric = goal.metric.rpartition("/")
        value = reports[test or "test"][metric]
        verdict, bound = "reached" if goal.passed(value) else "MISSED", "at most" if goal.at_most else "at least"
        lines.append(f"goal {verdict}: {goal.metric} {value:.3f}, required {bound} {goal.threshold:g}")
    if goals:
        limit = goals[0].seconds
        verdict = "reached" if seconds <= limit else "MISSED"
        lines.append(f"goal {verdict}: {seconds:.0f} s of training, required at most {limit:.0f} s")
    return lines


def print_list() -> None:
    """Print all tasks and architectures."""
    console = wide_console()
    table = Table("task", "summary", "architecture", "examples", box=None)
    for name in TASKS:
        task = task_class(name)
        table.add_row(name, task.summary, task.arch, f"{task.examples:,}")
    console.print(table)
    table = Table("input", "architectures", box=None)
    for modality in dict.fromkeys(modality for modality, _ in ARCHITECTURES.values()):
        names = [name for name, (kind, _) in ARCHITECTURES.items() if kind == modality]
        table.add_row(modality, ", ".join(names))
    console.print(table)
