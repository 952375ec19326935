"""Is everything here? Makes, steps and records a game of each family; prints the command that mends a failure."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rich.console import Console

from agents.errors import ConfigError
from agents.run import machine
from envs.action_replays import EpisodeRecord
from envs.make import make_env, make_envs
from envs.video import check_video, render_replay
from scripts.command_line.errors import run_main

GAMES = {
    "classic control": ("CartPole-v1", "gymnasium", "-e ."),
    "Atari": ("ALE/Freeway-v5", "ale_py", "-e ."),
    "Box2D": ("LunarLander-v3", "Box2D", "-e '.[games]'"),
    "MinAtar": ("MinAtar/Breakout-v1", "minatar", "-e '.[games]'"),
    "MiniGrid": ("MiniGrid-Empty-5x5-v0", "minigrid", "-e '.[games]'"),
}
"""Family -> a short game, the package behind it, what pip is to install."""


def play(env_id: str) -> EpisodeRecord:
    """Play at random until one game has ended; return it."""
    envs = make_envs(env_id, 1, threads=1)
    envs.reset(seed=0)
    envs.single_action_space.seed(0)
    for _ in range(5000):
        *_, info = envs.step(np.array([envs.single_action_space.sample()]))
        if "episodes" in info:
            return info["episodes"][0]
    raise ConfigError(f"{env_id} did not end within 5,000 steps")


def game(env_id: str) -> str:
    """Make, step and record a game; say what came out."""
    record = play(env_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "game.mp4"
        video = render_replay(record, [], path, make_env, max_steps=200)
        check_video(path)
    sound = "sound" if video.has_audio else "no sound"
    return f"{env_id}: score {record.episode_return:g}, video {video.width}x{video.height}, {sound}"


def tracking() -> str:
    """Say how W&B would run."""
    import wandb

    account = bool(os.environ.get("WANDB_API_KEY")) or (Path.home() / ".netrc").exists()
    return f"W&B {wandb.__version__}, {'an account is set up' if account else 'no account: runs stay offline'}"


def main() -> None:
    """Check one thing after the other; exit code 1 if something installed is broken."""
    console, broken = Console(highlight=False, soft_wrap=True), 0
    checks: list[tuple[str, str, str, Callable[[], str]]] = [
        ("torch", "torch", "-e .", machine.summary),
        ("Weights & Biases", "wandb", "-e .", tracking),
        *((name, package, pip, lambda env_id=env_id: game(env_id)) for name, (env_id, package, pip) in GAMES.items()),
        ("Stable-Baselines3", "stable_baselines3", "-e '.[sb3]'", lambda: "installed"),
    ]
    for name, package, pip, check in checks:
        command = f"pip install -c constraints.txt {pip}"
        if importlib.util.find_spec(package) is None:
            console.print(f"[yellow]missing[/]  {name}: {command}")
            continue
        try:
            console.print(f"[green]works[/]    {name}: {check()}")
        except Exception as error:  # whatever is wrong with a family, the others are still to be looked at
            broken += 1
            console.print(f"[red]broken[/]   {name}: {' '.join(str(error).split())}; try {command}")
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    run_main(main)
