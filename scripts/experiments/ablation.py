"""Ablations: an algorithm as it is, and again and again with one of its components switched off.

The components are found in the config that the preset gives, so a new algorithm needs nothing here, and a new component
one line of COMPONENTS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np
from rich.table import Table

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.presets.registry import ALGORITHMS, is_baseline, without_core
from scripts.experiments.suite import compete, finish, scores_of
from scripts.experiments.training_jobs import SUITE_FIELDS, Contender, Settings, contender, resolve
from scripts.report import statistics as st
from scripts.report.tables import interval, number, wide_console


class LostError(ConfigError):
    """A component that cannot be switched off alone."""


@dataclass(frozen=True)
class Component:
    """Part of an algorithm that can be left out."""

    marks: tuple[str, ...]
    """Fields that show it; a config class without any of them does not have the component."""
    on: Callable[[Any], bool]
    """Whether such a field's value means that it is in use."""
    off: dict[str, Any] | Callable[[Any], dict[str, Any]]
    """Fields that switch it off, or what gives them for a config; those that it does not have are left out."""
    algorithm: str | None = None
    """What it is without the component, where that is another algorithm."""

    def used_by(self, config: TrainConfig) -> bool:
        """Whether the config has the component, switched on."""
        return any(hasattr(config, name) and self.on(getattr(config, name)) for name in self.marks)


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
"""Name -> where to find it, and how to switch it off. noisy nets give way to DQN's own exploration."""


def components(algorithm: str, settings: Settings) -> list[str]:
    """Return the components that are switched on, the same in every game; raise ConfigError where there are none."""
    used = {}
    for env in settings.envs:
        config = resolve(algorithm, env, settings.preset, settings.overrides, settings.total_steps)
        used[env] = [name for name, component in COMPONENTS.items() if component.used_by(config)]
    first, *others = used.values()
    if any(other != first for other in others):
        found = "; ".join(f"{env}: {', '.join(names) or 'none'}" for env, names in used.items())
        raise ConfigError(f"{algorithm} has not the same components in every game ({found}); ablate each alone")
    if not first:
        raise ConfigError(f"{algorithm} has nothing to switch off here: none of {', '.join(COMPONENTS)} is on")
    return first


def without(name: str, algorithm: str, env: str, settings: Settings) -> Contender:
    """Return the algorithm with one component off and all else as it is; LostError where more than it would go."""
    component, preset, given = COMPONENTS[name], settings.preset, list(settings.overrides)
    config = resolve(algorithm, env, preset, given, settings.total_steps)
    if component.algorithm is None:
        off = component.off(config) if callable(component.off) else component.off
        given += as_options({key: value for key, value in off.items() if hasattr(config, key)})
    else:
        algorithm, preset = component.algorithm, "tiny" if preset == "tiny" else None
        given = _as_another(name, config, algorithm, preset)
    return contender(f"without {name}", algorithm, env, preset, given, settings.total_steps)


def _as_another(name: str, config: TrainConfig, algorithm: str, preset: str | None) -> list[str]:
    """Return the options that give the other algorithm every setting of `config` that it knows."""
    known = {field.name for field in fields(ALGORITHMS[algorithm][0])}
    used = [key for key, component in COMPONENTS.items() if key != name and component.used_by(config)]
    lost = [key for key in used if not known & set(COMPONENTS[key].marks)]
    if lost:
        raise LostError(f"without {name} it would be {algorithm}, which has no {', '.join(lost)}")
    core = [f"--core={config.core}"]  # a preset goes by it, so it comes first
    base = resolve(algorithm, config.env, preset, core, config.total_steps)
    values = {key: getattr(config, key) for key in sorted(known) if hasattr(config, key) and key not in SUITE_FIELDS}
    return core + as_options({key: value for key, value in values.items() if value != getattr(base, key)})


def as_options(values: dict[str, Any]) -> list[str]:
    """Return the command-line options that set these fields."""
    found: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, tuple):
            found += [f"--{option}", *(str(part) for part in value)]
        elif isinstance(value, dict):
            found += [f"--{option}", *(str(part) for pair in value.items() for part in pair)]
        else:
            found.append(f"--{option}={value}")
    return found


def ablate(algorithm: str, settings: Settings, only_list: bool = False) -> None:
    """Train the algorithm and its variants on every game, and print what each component is worth."""
    if is_baseline(algorithm):
        raise ConfigError(f"an ablation is for agents of ours, not for Stable-Baselines3's {algorithm}")
    console, envs = wide_console(), list(dict.fromkeys(settings.envs))
    variants: dict[str, list[Contender]] = {}
    for name in components(algorithm, settings):
        try:
            variants[name] = [without(name, algorithm, env, settings) for env in envs]
        except LostError as error:
            console.print(f"left out: {error}", highlight=False, soft_wrap=True)
    if only_list:
        table = Table("component", "without it", box=None)
        for name, (first, *_) in variants.items():
            table.add_row(name, f"{first.algorithm} {' '.join(first.overrides)}")
        console.print(table)
        return
    make = [(algorithm, algorithm, env, settings.preset, settings.overrides, settings.total_steps) for env in envs]
    full = [contender(*values) for values in make]
    rows, failed = compete([*full, *chain.from_iterable(variants.values())], settings, console)
    by_label: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(row)
    summary = compare(by_label)
    console.print(ablation_table(summary, by_label, envs, settings))
    finish({"suite": "ablate", "algorithm": algorithm, "summary": summary, "rows": rows}, failed, settings)


def compare(by_label: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return IQM and probability of improvement of the first contender over each other one, with intervals.

    Where there are several games, scores are divided by the first contender's mean in each; where that is not above
    0 in all, this means nothing, and there is no IQM.
    """
    tasks = {label: [scores_of(row["runs"]) for row in rows] for label, rows in by_label.items()}
    first, *_ = tasks.values()
    means = [float(scores.mean()) if len(scores) else 0.0 for scores in first]
    scale = means if len(first) > 1 else [1.0]
    found = []
    for label, scores in tasks.items():
        complete = all(len(part) for part in (*scores, *first))
        normal = [part / by for part, by in zip(scores, scale, strict=True)] if min(scale) > 0 else None
        line: dict[str, Any] = {"label": label, "runs": sum(len(part) for part in scores), "normalized_by": scale}
        line |= {"iqm": None, "interval": None, "improvement": None, "improvement_interval": None}
        if complete and normal is not None:
            line["iqm"] = float(st.iqm(normal))
            line["interval"] = st.bootstrap(normal, st.iqm, np.random.default_rng(0))
        if complete and scores is not first:
            line["improvement"] = float(st.probability_of_improvement(first, scores))
            line["improvement_interval"] = st.improvement_interval(first, scores, np.random.default_rng(0))
        found.append(line)
    return found


def ablation_table(
    summary: list[dict[str, Any]], by_label: dict[str, list[dict[str, Any]]], envs: list[str], settings: Settings
) -> Table:
    """Return one line for the full agent and one for each variant."""
    full = summary[0]["label"]
    scale = f", divided by {full}'s mean in each game" if len(envs) > 1 else ""
    title = f"final training score after {settings.total_steps:,} env steps{scale}; IQM and 95 % intervals"
    if len(envs) > 1 and min(summary[0]["normalized_by"]) <= 0:
        title += f"\n{full}'s mean is not above 0 in every game: the games cannot be put on one scale"
    table = Table("", box=None, title=title, title_justify="left")
    for name in ("runs", "IQM", "", f"chance that {full} is better", "", *(f"{env}: IQM, evaluation" for env in envs)):
        table.add_column(name, justify="right", overflow="fold")
    for line in summary:
        cells = [line["label"], str(line["runs"]), number(line["iqm"]), interval(line["interval"])]
        cells += [number(line["improvement"]), interval(line["improvement_interval"])]
        cells += [f"{number(row['iqm'])}, {number(row['evaluation'])}" for row in by_label[line["label"]]]
        table.add_row(*cells)
    return table
