"""Command-line fields: a preset's dataclass becomes the options, unknown ones are answered with the closest."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import tyro
from rich.console import Console
from rich.table import Table

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.presets import registry
from agents.sb3 import zoo_presets
from envs.make import check_id, family, register_families

Config = TypeVar("Config", bound=Any)
"""A frozen dataclass of settings."""


def parse(algorithm: str, env_id: str | None, name: str | None, rest: list[str]) -> TrainConfig:
    """Return the config: the preset for this algorithm and game, with the command line's changes."""
    if algorithm not in registry.ALGORITHMS:
        close = difflib.get_close_matches(algorithm, registry.ALGORITHMS, 1)
        known = f"did you mean {close[0]}?" if close else f"there are {', '.join(registry.ALGORITHMS)}"
        raise ConfigError(f"unknown algorithm '{algorithm}'; {known}")
    if env_id is None and not {"-h", "--help"} & set(rest):
        raise ConfigError("name a game: --env ID (train.py --list shows some)")
    env_id = env_id or "CartPole-v1"
    check_id(env_id)
    tiny = name == "tiny"
    config = registry.preset(algorithm, preset_name(algorithm, env_id, name))
    config = replace(registry.tiny(config) if tiny else config, env=env_id)
    if config.stop_return is None:  # what Gymnasium says a solved game is, where it says so
        config = replace(config, stop_return=gym.spec(env_id).reward_threshold)
    config = registry.memory(config, _value_of("--core", rest))
    config = overridden(algorithm, config, rest)
    config.validate()
    return config


def preset_name(algorithm: str, env_id: str, name: str | None) -> str:
    """Return the key in the presets of what --preset says: none takes the family's, zoo the game's in SB3's zoo."""
    if name == "zoo" and algorithm in zoo_presets.KINDS:
        return zoo_presets.entry(env_id, family(env_id))
    return family(env_id) if name in (None, "tiny") else name


def print_list() -> None:
    """Show algorithms with their presets, and how many games of each family are installed."""
    console = Console()
    table = Table("algorithm", "presets (by game family, or for --preset)", box=None)
    for algorithm in registry.ALGORITHMS:
        table.add_row(algorithm, ", ".join([*(name for owner, name in registry.PRESETS if owner == algorithm), "tiny"]))
    console.print(table)
    register_families()
    games: dict[str, list[str]] = {}
    for env_id in sorted(gym.registry):
        kind = family(env_id)
        old = kind == "atari" and not env_id.endswith("-v5")  # a name under which an Atari game is not played here
        # what cannot be made without packages that are not among ours
        foreign = re.search("mujoco|phys2d|tabular|shimmy", str(gym.registry[env_id].entry_point))
        if not old and not foreign:
            games.setdefault(kind, []).append(env_id)
    table = Table("family", "games", "some of them", box=None)
    for kind, ids in games.items():
        table.add_row(kind, str(len(ids)), ", ".join(ids[:: max(len(ids) // 4, 1)][:4]))
    console.print(table)


def _value_of(option: str, rest: list[str]) -> str | None:
    for position, part in enumerate(rest):
        if part == option and position + 1 < len(rest):
            return rest[position + 1]
        if part.startswith(f"{option}="):
            return part.split("=", 1)[1]
    return None


def overridden(owner: str, config: Config, rest: list[str]) -> Config:
    """Apply the remaining options through tyro, whose own message is folded into one line."""
    rest = [_switch(config, part) for part in rest]
    names = [option for field in fields(config) for option in _spellings(field.name)]
    for part in rest:
        option = part.split("=", 1)[0]
        if option.startswith("--") and option not in (*names, "--help"):
            close = difflib.get_close_matches(option, names, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; see {Path(sys.argv[0]).name} {owner} --help"
            raise ConfigError(f"{owner} has no option {option}{hint}")
    if {"-h", "--help"} & set(rest):
        tyro.cli(
            type(config), args=["--help"], default=config, prog=f"{Path(sys.argv[0]).name} {owner}", description=""
        )
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured), contextlib.redirect_stdout(captured):
            return tyro.cli(type(config), args=rest, default=config)
    except SystemExit as error:
        words = re.sub(r"[╭╮╰╯│─|]+|-{3,}", " ", captured.getvalue())
        message = re.sub(r"\s+", " ", words)
        message = re.split("For full helptext|Argument helptext", message)[0].strip()
        raise ConfigError(message or f"cannot read {' '.join(rest)}") from error


def _switch(config: object, part: str) -> str:
    """Return a switch's `--name=true`, as a W&B agent writes it, as the flag that it is; anything else unchanged."""
    option, _, value = part.partition("=")
    name = option.removeprefix("--").replace("-", "_")
    if isinstance(getattr(config, name, None), bool) and value.lower() in ("true", "false"):
        return _spellings(name)[0 if value.lower() == "true" else 2]
    return part


def _spellings(name: str) -> tuple[str, str, str]:
    dashed = name.replace("_", "-")
    return f"--{dashed}", f"--{name}", f"--no-{dashed}"
