"""Settings of a training by name: preset, overrides, checks; for the command line, the Python API and experiments."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, get_type_hints

import gymnasium as gym

from agents.annotations import coerce, in_words
from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.presets import registry
from agents.presets.base import derive
from agents.sb3 import zoo_presets
from agents.setting_names import OLD_NAMES, OLD_SWITCHES, closest
from envs.make import check_id, family

Config = TypeVar("Config", bound=Any)
"""A frozen dataclass of settings."""
FAMILIES = ("classic", "box2d", "atari", "minatar", "minigrid", "toy")
"""Game families, as `envs.make.family` names them."""


def resolve(
    algorithm: str, env_id: str, preset: str | None = None, overrides: Mapping[str, object] | None = None
) -> TrainConfig:
    """Return the settings of a training: the preset with `overrides` by field name, checked.

    Raises ConfigError (or EnvError) for an unknown algorithm, environment, preset or setting, with the closest name,
    and for an impossible value.
    """
    overrides = dict(overrides or {})
    core = overrides.get("core")
    config = override(defaults(algorithm, env_id, preset, None if core is None else str(core)), overrides, algorithm)
    config.validate()
    return config


def defaults(algorithm: str, env_id: str, preset: str | None = None, core: str | None = None) -> TrainConfig:
    """Return the preset for this algorithm and environment; `core` also sets sequences to train that memory on."""
    check_algorithm(algorithm)
    check_id(env_id)
    name = preset_name(algorithm, env_id, preset)
    config = _preset(algorithm, name)
    if preset == "tiny":
        config = registry.tiny(config)
    config = replace(config, env=env_id)
    if config.stop_return is None:  # the score at which Gymnasium calls this environment solved, if it has one
        config = replace(config, stop_return=gym.spec(env_id).reward_threshold)
    return registry.with_core(config, core)


def override(config: Config, overrides: Mapping[str, object], owner: str) -> Config:
    """Return `config` with `overrides` by field name; `owner` is the algorithm or task that an error names."""
    hints = get_type_hints(type(config))
    names = [field.name for field in fields(config)]
    values = {}
    for name, value in overrides.items():
        name, value = _renamed(name, value, names)
        if name not in names:
            raise ConfigError(f"{owner} has no setting '{name}'{closest(name, names)}")
        try:
            values[name] = coerce(value, hints[name])
        except ValueError as error:
            raise ConfigError(f"{name} takes {in_words(hints[name])}, not {value!r}") from error
    return replace(config, **values)


def _renamed(name: str, value: object, names: Sequence[str]) -> tuple[str, object]:
    """Return a setting under the name that took the place of a former one."""
    if name in names:
        return name, value
    new, on, off = OLD_SWITCHES.get(name.replace("_", "-"), ("", "", ""))
    if new.replace("-", "_") in names:
        return new.replace("-", "_"), {True: on, False: off}.get(value is True, value)
    return OLD_NAMES.get(name.replace("_", "-"), name).replace("-", "_"), value


def check_algorithm(algorithm: str) -> None:
    """Raise ConfigError, with the closest name, unless the algorithm exists."""
    if algorithm not in registry.ALGORITHMS:
        hint = closest(algorithm, registry.ALGORITHMS) or f"; there are {', '.join(registry.ALGORITHMS)}"
        raise ConfigError(f"unknown algorithm '{algorithm}'{hint}")


def preset_name(algorithm: str, env_id: str, preset: str | None) -> str:
    """Return the preset's key: the game's family by default, for `zoo` the game's entry in SB3's zoo."""
    kind = family(env_id)
    if preset in (None, "tiny"):
        return kind
    if preset == "zoo":
        preset = registry.zoo_preset(algorithm, env_id, kind) or preset
    assert preset is not None
    suited = family_of_preset(algorithm, preset)
    if (algorithm, preset) in registry.PRESETS and suited not in ("", kind):
        warnings.warn(f"the preset {preset} is for {suited} games; {env_id} is of the family {kind}", stacklevel=2)
    return preset


def family_of_preset(algorithm: str, name: str) -> str:
    """Return the game family that a preset was made for; an empty string where its name tells none."""
    if (algorithm, name) in zoo_presets.ZOO:
        return zoo_presets.ZOO[algorithm, name][0]
    family = {"fast": "atari"}.get(name, name.split("-")[0])
    return family if family in FAMILIES else ""


def _preset(algorithm: str, name: str) -> TrainConfig:
    """Return the preset; without one for a family, an algorithm takes its parent algorithm's."""
    if (algorithm, name) not in registry.PRESETS and name in FAMILIES:
        kind = registry.ALGORITHMS[algorithm][0]
        own = {field.name: field.default for field in fields(kind)}
        for parent in kind.__mro__[1:]:
            for base, (base_kind, _) in registry.ALGORITHMS.items():
                if base_kind is parent and (base, name) in registry.PRESETS:
                    changed = {f.name: own[f.name] for f in fields(parent) if own[f.name] != f.default}
                    warnings.warn(f"{algorithm} has no preset for {name} games; it takes that of {base}", stacklevel=2)
                    return derive(kind, registry.PRESETS[base, name], **changed)
    return registry.preset(algorithm, name)
