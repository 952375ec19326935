"""Environments made by a user's factory, registered in Gymnasium for this process under `custom/NAME`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym

from agents.errors import ConfigError

NAMESPACE = "custom/"
EnvFactory = Callable[..., gym.Env]
"""Returns a new environment; called with `env_kwargs`, and with `render_mode` if it has a parameter of that name."""


def env_name(factory: EnvFactory) -> str:
    """Return the id of a factory's environments: custom/ and the function's or class's name."""
    name = getattr(factory, "__name__", type(factory).__name__)
    return NAMESPACE + (re.sub(r"[^\w.-]+", "-", name).strip("-") or "env")


def register(env_id: str, factory: EnvFactory) -> None:
    """Register a factory for this process; one of the same id is replaced."""
    takes_render_mode = "render_mode" in inspect.signature(factory).parameters

    def make(render_mode: str | None = None, **env_kwargs: Any) -> gym.Env:
        env = factory(render_mode=render_mode, **env_kwargs) if takes_render_mode else factory(**env_kwargs)
        if not isinstance(env, gym.Env):
            raise ConfigError(f"the environment factory must return a gymnasium.Env, not {type(env).__name__}")
        return env

    gym.registry.pop(env_id, None)
    gym.register(env_id, make)


def check_registered(env_id: str) -> None:
    """Raise ConfigError for the id of a factory's environments in a process that does not have the factory."""
    if env_id.startswith(NAMESPACE) and env_id not in gym.registry:
        raise ConfigError(
            f"{env_id} is an environment made by Python code; use its runs from Python, with the factory: "
            "load(run, env=factory)"
        )


def register_for_run(env_id: str, factory: EnvFactory | None, folder: Path) -> None:
    """Register the factory of a run's environment; raise ConfigError where it is missing or not wanted."""
    custom = env_id.startswith(NAMESPACE)
    if custom and factory is None:
        raise ConfigError(f"{folder} was trained on an environment factory ({env_id}); give it again: env=factory")
    if factory is not None and not custom:
        raise ConfigError(f"{folder} was trained on {env_id}, which needs no environment factory")
    if factory is not None:
        register(env_id, factory)


def refuse_id(env_id: str) -> None:
    """Raise ConfigError for the id of a factory's environments, which only the factory can make."""
    if env_id.startswith(NAMESPACE):
        raise ConfigError(f"{env_id} comes from an environment factory; give the factory itself as env")
