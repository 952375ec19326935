"""Learning suites: train contenders x games x seeds, evaluate every run, and print one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from agents.errors import ConfigError, RunError
from scripts.experiments.results import ContenderResult, RunOutcome, read_outcome, summarise
from scripts.experiments.settings import BudgetOptions, Settings
from scripts.experiments.training_jobs import Contender, Job, make_contender, run
from scripts.report.run_data import LAST_GAMES
from scripts.report.tables import interval, number, print_line, wide_console
from scripts.runner.files import write_json
from scripts.runner.origin import origin


@dataclass(frozen=True, kw_only=True)
class Learn(BudgetOptions):
    """Train algorithms on games with several seeds, and compare their scores.

    Options of train.py for every run go after a --.
    """

    algorithms: Annotated[Positional[tuple[str, ...]], arg(metavar="ALGO...", help_behavior_hint="(required)")] = ()
    """Algorithms, as for train.py."""
    env: Annotated[tuple[str, ...], arg(metavar="ID...", help_behavior_hint="(required)")] = ()
    """Games."""

    def run(self, overrides: Sequence[str]) -> None:
        """Train, evaluate and print; `overrides` are options of train.py for every run."""
        if not self.algorithms or not self.env:
            raise ConfigError("name algorithms and games: learn ALGO... --env ID...")
        learn(self.algorithms, self.settings(self.env, overrides))


def learn(algorithms: Sequence[str], settings: Settings) -> None:
    """Train every algorithm on every game, and print one table."""
    contenders = [
        make_contender(algorithm, algorithm, env, settings.preset, settings.overrides, settings.total_steps)
        for env in settings.envs
        for algorithm in dict.fromkeys(algorithms)
    ]
    console = wide_console()
    results, failed = compete(contenders, settings, console)
    console.print(learning_table(results, settings))
    for env in settings.envs:
        if len({name for result in results if result.env == env for name in result.fingerprints}) > 1:
            console.print(f"[yellow]warning:[/] runs of {env} differ in protocol: do not compare", soft_wrap=True)
    finish({"suite": "learn", "rows": [asdict(result) for result in results]}, failed, settings)


def compete(
    contenders: Sequence[Contender], settings: Settings, console: Console
) -> tuple[list[ContenderResult], dict[str, str]]:
    """Train and evaluate all; return a result for each contender, and an error line for each failed job by its name."""
    # seed by seed, so that an interrupted suite has as many runs of one contender as of another
    jobs = [Job(each, seed, each.folder(settings.folder, seed)) for seed in settings.seeds for each in contenders]
    for job in jobs:
        job.check()
    failed = {job.name: line for job, line in run(jobs, settings, console).items()}
    outcomes: dict[Contender, list[RunOutcome]] = {contender: [] for contender in contenders}
    for job in jobs:
        if job.name in failed:
            continue
        try:
            outcomes[job.contender].append(read_outcome(job, settings.episodes))
        except (ValueError, OSError) as error:  # a run that cannot be read does not cost the others
            failed[job.name] = " ".join(str(error).split())
            print_line(console, f"{job.name}: FAILED: {failed[job.name]}")
    return [summarise(contender, runs) for contender, runs in outcomes.items()], failed


def learning_table(results: Sequence[ContenderResult], settings: Settings) -> Table:
    """Return one line for each algorithm and game."""
    title = f"score: mean return of a run's last {LAST_GAMES} training games; IQM over seeds, 95 % interval"
    table = Table(box=None, title=title, title_justify="left")
    for name in ("algorithm", "game"):
        table.add_column(name, overflow="fold")
    columns = ["seeds", "env steps", "IQM", "", "evaluation", "best", "worst", "seconds", "steps/s"]
    if any(result.goal for result in results):
        columns += ["solved", "steps to solve", "seconds to solve"]
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    for result in results:
        ranked = sorted((run.score, -run.seed) for run in result.runs if run.score is not None)
        best_and_worst = [f"{number(score)} (s{-seed})" for score, seed in (*ranked[-1:], *ranked[:1])] or ["-", "-"]
        cells = [result.label, result.env, f"{len(result.runs)}/{len(settings.seeds)}", number(result.env_steps)]
        cells += [number(result.iqm), interval(result.interval), number(result.evaluation), *best_and_worst]
        cells += [number(result.wall_seconds), number(result.steps_per_second)]
        if result.goal:
            cells += [f"{result.goal.solved}/{len(result.runs)}", number(result.goal.env_steps)]
            cells += [number(result.goal.wall_seconds)]
        table.add_row(*cells)
    return table


def finish(numbers: dict[str, Any], failed: dict[str, str], settings: Settings) -> None:
    """Write `numbers` with settings and origin to --out; raise RunError if a run failed."""
    if settings.out is not None:
        given = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(settings).items()}
        given["seeds"] = list(settings.seeds)
        write_json(settings.out, {**origin().to_json(), "settings": given, **numbers, "failed": failed})
    if failed:
        count = f"{len(failed)} run{'s' if len(failed) > 1 else ''}"
        raise RunError(f"{count} failed: {'; '.join(failed)}; logs are in {settings.folder}")
