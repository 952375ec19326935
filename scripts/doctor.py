"""Check the installation: make, step and record a game of each family; print the command that mends each failure."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from scripts.command_line.errors import run_main
from scripts.command_line.options import parse

if TYPE_CHECKING:
    from envs.action_replays import EpisodeRecord

GAMES = {
    "classic control": ("CartPole-v1", "gymnasium", "-e ."),
    "Atari": ("ALE/Freeway-v5", "ale_py", "-e ."),
    "Box2D": ("LunarLander-v3", "Box2D", "-e '.[games]'"),
    "MinAtar": ("MinAtar/Breakout-v1", "minatar", "-e '.[games]'"),
    "MiniGrid": ("MiniGrid-Empty-5x5-v0", "minigrid", "-e '.[games]'"),
}
"""Family -> a short game, the package that it needs, arguments of pip that install it."""


@dataclass(frozen=True)
class DoctorOptions:
    """The command has no options."""


def play(env_id: str) -> EpisodeRecord:
    """Play at random until a game has ended; return its record."""
    import numpy as np

    from envs.make import make_envs

    envs = make_envs(env_id, 1, threads=1)
    envs.reset(seed=0)
    envs.single_action_space.seed(0)
    for _ in range(5000):
        *_, info = envs.step(np.array([envs.single_action_space.sample()]))
        if "episodes" in info:
            return info["episodes"][0]
    raise ConfigError(f"{env_id} did not end within 5,000 steps")


def game(env_id: str) -> str:
    """Make, step and record a game; return its score and the facts of the video."""
    from envs.make import make_env
    from envs.video import check_video, render_replay

    record = play(env_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "game.mp4"
        facts = render_replay(record, [], path, make_env, max_steps=200)
        check_video(path)
    sound = "sound" if facts.has_audio else "no sound"
    return f"{env_id}: score {record.episode_return:g}, video {facts.width}x{facts.height}, {sound}"


def tracking() -> str:
    """Return the version of W&B, and whether an account is set up."""
    import wandb

    account = bool(os.environ.get("WANDB_API_KEY")) or (Path.home() / ".netrc").exists()
    return f"W&B {wandb.__version__}, {'an account is set up' if account else 'no account: runs stay offline'}"


def main() -> None:
    """Run all checks; exit with 1 if anything that is installed is broken."""
    parse(DoctorOptions, sys.argv[1:], prog="doctor.py", description=__doc__)
    print("checking libraries and games ...", flush=True)
    from rich.console import Console
    from rich.markup import escape

    from agents.run import machine

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
            console.print(f"[yellow]missing[/]  {name}: {escape(command)}")
            continue
        try:
            console.print(f"[green]works[/]    {name}: {escape(check())}")
        except Exception as error:  # a broken family must not hide the others
            broken += 1
            line = escape(f"{' '.join(str(error).split())}; try {command}")
            console.print(f"[red]broken[/]   {name}: {line}")
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    run_main(main)
