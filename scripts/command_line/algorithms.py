"""Algorithms and games in lists, for `train.py --help` and `train.py --list`."""

from __future__ import annotations

import re

from agents.setting_names import closest
from scripts.command_line.errors import UsageError

ALGORITHMS = {
    "dqn": "Q-learning from a replay",
    "c51": "DQN that learns the distribution of returns, on fixed atoms",
    "qr-dqn": "DQN that learns quantiles of the return",
    "iqn": "DQN that learns the quantile function of the return",
    "rainbow": "C51 with double, dueling, noisy layers, priorities and n-step returns",
    "btr": "IQN with Munchausen targets, dueling, noisy layers, priorities and n-step returns",
    "r2d2": "DQN with an LSTM trained on stored sequences, for games that need memory",
    "pqn": "Q-learning without a replay or target network, on many environments",
    "reinforce": "Monte Carlo policy gradient; the simplest agent, for small games",
    "a2c": "actor-critic with one update per short rollout",
    "ppo": "actor-critic with clipped updates; a good first choice for any game",
    "rnd": "PPO with a bonus for novel observations, for rare rewards",
    "impala": "actor-critic with V-trace corrections, for many environments",
    "sac": "soft actor-critic for discrete actions, from a replay",
    "sb3-ppo": "Stable-Baselines3's PPO, as a baseline",
    "sb3-a2c": "Stable-Baselines3's A2C, as a baseline",
    "sb3-dqn": "Stable-Baselines3's DQN, as a baseline",
    "sb3-qrdqn": "sb3-contrib's QR-DQN, as a baseline",
    "sb3-recurrent-ppo": "sb3-contrib's PPO with an LSTM, as a baseline",
}
"""What each algorithm is for, in a line; here because the help imports no torch."""


WELL_KNOWN = (
    "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1", "LunarLander-v3", "BipedalWalker-v3", "CarRacing-v3",
    "ALE/Pong-v5", "ALE/Breakout-v5", "ALE/SpaceInvaders-v5", "ALE/MsPacman-v5", "MinAtar/Breakout-v1",
    "MinAtar/Asterix-v1", "MinAtar/Freeway-v1", "MinAtar/Seaquest-v1", "MiniGrid-DoorKey-5x5-v0",
    "MiniGrid-Empty-5x5-v0", "MiniGrid-MemoryS7-v0", "BabyAI-GoToRedBall-v0", "joypad/Chain-v0",
    "joypad/MemoryChain-v0", "joypad/DeepSea-v0", "joypad/TMaze-v0",
)  # fmt: skip
"""Examples of each family."""


def overview() -> str:
    """Return the algorithms with a line each."""
    width = max(map(len, ALGORITHMS))
    return "\n".join(f"  {name:<{width}}  {line}" for name, line in ALGORITHMS.items())


def print_families() -> None:
    """Print what each algorithm is for, and the game families with some of their games."""
    from rich.console import Console
    from rich.table import Table

    from agents.presets import registry
    from scripts.runner.settings import FAMILIES

    console = Console()
    table = Table("algorithm", "for", box=None)
    for name, (_, agent) in registry.ALGORITHMS.items():
        table.add_row(name, ALGORITHMS.get(name) or (agent.__doc__ or "").split("\n")[0])
    console.print(table)
    table = Table("family", "games", "some of them", box=None)
    games = games_by_family()
    for kind in sorted(games, key=lambda name: FAMILIES.index(name)):
        ids = games[kind]
        known = [name for name in WELL_KNOWN if name in ids]
        table.add_row(kind, str(len(ids)), ", ".join([*known, *(name for name in ids if name not in known)][:4]))
    console.print(table)
    console.print("train.py --list FAMILY lists all games and presets of a family", highlight=False)


def print_family(family: str) -> None:
    """Print all games of a family, and the presets that can be chosen for them."""
    from rich.columns import Columns
    from rich.console import Console

    from agents.presets import registry
    from scripts.runner.settings import family_of_preset

    games = games_by_family()
    if family not in games:
        raise UsageError(f"there is no family '{family}'{closest(family, games) or '; there are ' + ', '.join(games)}")
    console = Console()
    console.print(f"{len(games[family])} games of the family {family}", highlight=False)
    console.print(Columns(games[family], padding=(0, 2)), highlight=False)
    console.print("\npresets: ALGO (the family's own), or ALGO --preset NAME; tiny is any preset at a size for tests")
    for algorithm in registry.ALGORITHMS:
        names = [name for owner, name in registry.PRESETS
                 if owner == algorithm and family_of_preset(owner, name) == family]  # fmt: skip
        if names:
            own = f"{algorithm}" if family in names else f"{algorithm} (no preset of its own)"
            console.print(f"  {own:<20}{', '.join(name for name in names if name != family)}", highlight=False)


def games_by_family() -> dict[str, list[str]]:
    """Return the environments that can be made here, by game family."""
    import gymnasium as gym

    from envs.make import family, register_families

    register_families()
    games: dict[str, list[str]] = {}
    for env_id in sorted(gym.registry):
        kind = family(env_id)
        old = kind == "atari" and not env_id.endswith("-v5")  # a former id of an Atari game, which `check_id` refuses
        foreign = re.search("mujoco|phys2d|tabular|shimmy", str(gym.registry[env_id].entry_point))  # packages not ours
        if not old and not foreign:
            games.setdefault(kind, []).append(env_id)
    return games
