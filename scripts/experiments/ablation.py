"""Ablations: an algorithm as its preset sets it, and once more without each of its components.

Components are recognised by the fields of the config, so a new algorithm needs nothing here, and a new component one
line of COMPONENTS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Annotated, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional, arg

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.presets.registry import ALGORITHMS, is_baseline, without_core
from scripts.experiments.results import ContenderResult
from scripts.experiments.settings import SUITE_FIELDS, BudgetOptions, Settings
from scripts.experiments.suite import compete, finish
from scripts.experiments.training_jobs import Contender, make_contender, resolve
from scripts.report import statistics as st
from scripts.report.comparison import MIN_RUNS, improvement
from scripts.report.tables import interval, number, print_line, wide_console


@dataclass(frozen=True, kw_only=True)
class Ablate(BudgetOptions):
    """Train an algorithm as it is, and once more without each of its components.

    Options of train.py for every run go after a --.
    """

    algorithm: Annotated[Positional[str], arg(metavar="ALGO", help_behavior_hint="(required)")] = ""
    """Algorithm, as for train.py."""
    env: Annotated[tuple[str, ...], arg(metavar="ID...", help_behavior_hint="(required)")] = ()
    """Games."""
    list: Annotated[bool, FlagCreatePairsOff] = False
    """List the components and the options that switch them off, and stop."""

    def run(self, overrides: Sequence[str]) -> None:
        """List or train the variants; `overrides` are options of train.py for every run."""
        if not self.algorithm or not self.env:
            raise ConfigError("name an algorithm and games: ablate ALGO --env ID...")
        if is_baseline(self.algorithm):
            raise ConfigError(f"ablations are for our own algorithms, not for Stable-Baselines3's {self.algorithm}")
        settings = self.settings(self.env, overrides, may_lack_budget=self.list)
        console = wide_console()
        variants = make_variants(self.algorithm, settings, console)
        if self.list:
            console.print(variants_table(variants))
        else:
            ablate(self.algorithm, variants, settings, console)


class InseparableError(ConfigError):
    """A component that cannot be switched off alone."""


@dataclass(frozen=True)
class Component:
    """Part of an algorithm that can be left out."""

    fields: tuple[str, ...]
    """Config fields that show it; a config class without any of them does not have the component."""
    is_on: Callable[[Any], bool]
    """Whether the value of such a field means that the component is in use."""
    off: dict[str, Any] | Callable[[Any], dict[str, Any]]
    """Fields that switch it off, or a function from config to fields; those that the config lacks are left out."""
    algorithm: str | None = None
    """Name of the algorithm without the component, where it is another one."""

    def used_by(self, config: TrainConfig) -> bool:
        """Whether the config has the component, switched on."""
        return any(hasattr(config, name) and self.is_on(getattr(config, name)) for name in self.fields)


COMPONENTS = {
    "double": Component(("double",), bool, {"double": False}),
    "dueling": Component(("dueling",), bool, {"dueling": False}),
    "n-step": Component(("n_step",), lambda steps: steps > 1, {"n_step": 1}),
    "noisy": Component(("noisy",), bool, {"noisy": False, "epsilon_start": 1.0, "epsilon_end": 0.01}),
    "prioritized": Component(("replay_sampling",), lambda name: name == "prioritized", {"replay_sampling": "uniform"}),
    "munchausen": Component(("munchausen",), bool, {"munchausen": False}),
    "distributional": Component(("atoms", "quantiles"), lambda value: True, {}, "dqn"),
    "layer-norm": Component(("layer_norm",), bool, {"layer_norm": False}),
    "core": Component(("core",), lambda core: core != "none", without_core),
    "burn-in": Component(("burn_in",), lambda steps: steps > 0, {"burn_in": 0}),
    "value-rescale": Component(("value_rescale",), bool, {"value_rescale": False}),
    "augment": Component(("augment",), bool, {"augment": False}),
    "observe-last": Component(("observe_last",), bool, {"observe_last": False}),
    "ladder": Component(("exploration",), lambda name: name == "ladder", {"exploration": "linear"}),
}
"""Name -> component. Without noisy nets, DQN explores with its own epsilon schedule."""


def components(algorithm: str, settings: Settings) -> list[str]:
    """Return the components that are in use in every game; raise ConfigError where there are none or they differ."""
    used = {}
    for env in settings.envs:
        config = resolve(algorithm, env, settings.preset, settings.overrides, settings.total_steps)
        used[env] = [name for name, component in COMPONENTS.items() if component.used_by(config)]
    first, *others = used.values()
    if any(other != first for other in others):
        by_game = "; ".join(f"{env}: {', '.join(names) or 'none'}" for env, names in used.items())
        raise ConfigError(f"{algorithm} has not the same components in every game ({by_game}); ablate each alone")
    if not first:
        raise ConfigError(f"{algorithm} has nothing to switch off here: none of {', '.join(COMPONENTS)} is on")
    return first


def without(name: str, algorithm: str, env: str, settings: Settings) -> Contender:
    """Return the algorithm without one component, all else equal; InseparableError where others would go with it."""
    component, preset, overrides = COMPONENTS[name], settings.preset, list(settings.overrides)
    config = resolve(algorithm, env, preset, overrides, settings.total_steps)
    if component.algorithm is None:
        off = component.off(config) if callable(component.off) else component.off
        overrides += as_options({key: value for key, value in off.items() if hasattr(config, key)})
    else:
        algorithm, preset = component.algorithm, "tiny" if preset == "tiny" else None
        overrides = _options_of_other(name, config, algorithm, preset)
    return make_contender(f"without {name}", algorithm, env, preset, overrides, settings.total_steps)


def _options_of_other(name: str, config: TrainConfig, algorithm: str, preset: str | None) -> list[str]:
    """Return the options that give another algorithm every setting of `config` that it has."""
    known = {field.name for field in fields(ALGORITHMS[algorithm][0])}
    used = [key for key, component in COMPONENTS.items() if key != name and component.used_by(config)]
    lost = [key for key in used if not known & set(COMPONENTS[key].fields)]
    if lost:
        raise InseparableError(f"without {name} it would be {algorithm}, which has no {', '.join(lost)}")
    core = [f"--core={config.core}"]  # presets depend on it, so it comes first
    base = resolve(algorithm, config.env, preset, core, config.total_steps)
    values = {key: getattr(config, key) for key in sorted(known) if hasattr(config, key) and key not in SUITE_FIELDS}
    return core + as_options({key: value for key, value in values.items() if value != getattr(base, key)})


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Return the command-line options that set these fields."""
    options: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, tuple):
            options += [f"--{option}", *(str(part) for part in value)]
        elif isinstance(value, dict):
            options += [f"--{option}", *(str(part) for pair in value.items() for part in pair)]
        else:
            options.append(f"--{option}={value}")
    return options


def make_variants(algorithm: str, settings: Settings, console: Console) -> dict[str, list[Contender]]:
    """Return the variants of each component, one per game; print the components that cannot be switched off alone."""
    variants: dict[str, list[Contender]] = {}
    for name in components(algorithm, settings):
        try:
            variants[name] = [without(name, algorithm, env, settings) for env in settings.envs]
        except InseparableError as error:
            print_line(console, f"left out: {error}")
    return variants


def variants_table(variants: Mapping[str, Sequence[Contender]]) -> Table:
    """Return one line for each component, with the options that switch it off."""
    table = Table("component", "without it", box=None)
    for name, (first, *_) in variants.items():
        table.add_row(name, escape(f"{first.algorithm} {' '.join(first.overrides)}"))
    return table


def ablate(
    algorithm: str, variants: Mapping[str, Sequence[Contender]], settings: Settings, console: Console
) -> None:  # fmt: skip
    """Train the algorithm and its variants on every game, and print scores and probabilities of improvement."""
    full = [make_contender(algorithm, algorithm, env, settings.preset, settings.overrides, settings.total_steps)
            for env in settings.envs]  # fmt: skip
    results, failed = compete([*full, *chain.from_iterable(variants.values())], settings, console)
    by_label: dict[str, list[ContenderResult]] = {}
    for result in results:
        by_label.setdefault(result.label, []).append(result)
    summary = summarise_ablation({label: [game.scores for game in games] for label, games in by_label.items()})
    console.print(ablation_table(summary, by_label))
    numbers = {"summary": [asdict(line) for line in summary], "rows": [asdict(result) for result in results]}
    finish({"suite": "ablate", "algorithm": algorithm, **numbers}, failed, settings)


@dataclass(frozen=True)
class AblationLine:
    """Score of a variant over all games and, but for the full agent, the probability that the full agent beats it."""

    label: str
    runs: int
    normalized_by: list[float]
    """Divisor of the scores of each game."""
    iqm: float | None = None
    interval: tuple[float, float] | None = None
    improvement: float | None = None
    """Probability that a run of the full agent scores higher; None below `MIN_RUNS` runs a side."""
    improvement_interval: tuple[float, float] | None = None


def summarise_ablation(scores: Mapping[str, Sequence[np.ndarray]]) -> list[AblationLine]:
    """Return IQM and probability of improvement of each label; its scores are a float [runs] for each game.

    The first label is the full agent. With several games, scores are divided by the full agent's mean in each; unless
    that is above 0 in all games, there is no IQM.
    """
    full, *_ = scores.values()
    means = [float(game.mean()) if len(game) else 0.0 for game in full]
    scale = means if len(full) > 1 else [1.0]
    lines = []
    for label, games in scores.items():
        complete = all(len(game) for game in (*games, *full))
        line: dict[str, Any] = {}
        if complete and min(scale) > 0:
            normalized = [game / divisor for game, divisor in zip(games, scale, strict=True)]
            line["iqm"] = float(st.iqm(normalized))
            line["interval"] = st.bootstrap(normalized, st.iqm, np.random.default_rng(0))
        if complete and games is not full:
            line["improvement"], line["improvement_interval"] = improvement(full, games)
        lines.append(AblationLine(label, sum(len(game) for game in games), scale, **line))
    return lines


def ablation_table(summary: Sequence[AblationLine], by_label: Mapping[str, Sequence[ContenderResult]]) -> Table:
    """Return one line for the full agent and one for each variant."""
    full, games = summary[0].label, by_label[summary[0].label]
    scale = f", divided by {full}'s mean in each game" if len(games) > 1 else ""
    title = f"final training score after {games[0].config['total_steps']:,} env steps{scale}; IQM and 95 % intervals"
    if len(games) > 1 and min(summary[0].normalized_by) <= 0:
        title += f"\n{full}'s mean is not above 0 in every game: the games cannot be put on one scale"
    table = Table("", box=None, title=title, title_justify="left")
    for name in ("runs", "IQM", "", f"probability that {full} is better", ""):
        table.add_column(name, justify="right", overflow="fold")
    for game in games:
        table.add_column(f"{game.env}: IQM, evaluation", justify="right", overflow="fold")
    for line in summary:
        cells = [line.label, str(line.runs), number(line.iqm), interval(line.interval)]
        if line.improvement is None and line.label != full:
            cells += [f"needs {MIN_RUNS} seeds a side", ""]
        else:
            cells += [number(line.improvement), interval(line.improvement_interval)]
        table.add_row(*cells, *(f"{number(game.iqm)}, {number(game.evaluation)}" for game in by_label[line.label]))
    return table
