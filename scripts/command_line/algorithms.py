"""Algorithms and games in lists, for `train.py --help` and `train.py --list`."""

from __future__ import annotations

import re

from agents.setting_names import closest
from scripts.command_line.errors import UsageError

ALGORITHMS = {
    "dqn": "plain Q-learning from a replay; simple, few env steps",
    "c51": "DQN that learns distributions of returns in a known range",
    "qr-dqn": "DQN that learns quantiles of returns of any range",
    "iqn": "DQN that learns the whole quantile function; costs more",
    "rainbow": "six improvements of DQN; Atari with few env steps",
    "btr": "IQN with Rainbow's parts and more; long trainings on Atari",
    "r2d2": "DQN with an LSTM; games that need memory",
    "pqn": "Q-learning without a replay; fast, with many environments",
    "reinforce": "the simplest policy gradient; for small games",
    "a2c": "actor-critic with short rollouts; a simple baseline",
    "ppo": "any game, discrete or continuous; a good first choice",
    "rnd": "PPO with a bonus for novelty; games with rare rewards",
    "impala": "actor-critic that corrects old data; many environments",
    "sac": "soft actor-critic from a replay; discrete actions only",
    "sb3-ppo": "Stable-Baselines3's PPO, as a baseline",
    "sb3-a2c": "Stable-Baselines3's A2C, as a baseline",
    "sb3-dqn": "Stable-Baselines3's DQN, as a baseline",
    "sb3-qrdqn": "sb3-contrib's QR-DQN, as a baseline",
    "sb3-recurrent-ppo": "sb3-contrib's PPO with an LSTM, as a baseline",
}
"""Each algorithm and its use, in a line of at most 58 characters: a list 80 wide. Here, since help imports no torch."""


WELL_KNOWN = (
    "CartPole-v1", "Acrobot-v1", "Pendulum-v1", "LunarLander-v3", "BipedalWalker-v3", "ALE/Pong-v5", "ALE/Breakout-v5",
    "MinAtar/Breakout-v1", "MinAtar/Asterix-v1", "MiniGrid-Empty-5x5-v0", "BabyAI-GoToRedBall-v0",
    "joypad/MemoryChain-v0", "joypad/DeepSea-v0",
)  # fmt: skip
"""Games that stand for their families in the list."""


def overview() -> str:
    """Return the algorithms with a line each."""
    width = max(map(len, ALGORITHMS))
    return "\n".join(f"  {name:<{width}}  {line}" for name, line in ALGORITHMS.items())


def print_families() -> None:
    """Print the use of each algorithm, and the game families with some of their games."""
    from rich.console import Console
    from rich.table import Table

    from agents.presets import registry
    from scripts.runner.settings import FAMILIES

    console = Console()
    table = Table("algorithm", "good for", box=None)
    for name, (_, agent) in registry.ALGORITHMS.items():
        table.add_row(name, ALGORITHMS.get(name) or (agent.__doc__ or "").split("\n")[0])
    console.print(table)
    table = Table("family", "games", "some of them", box=None)
    games = games_by_family()
    for kind in sorted(games, key=lambda name: FAMILIES.index(name)):
        ids = games[kind]
        table.add_row(kind, str(len(ids)), ", ".join(name for name in WELL_KNOWN if name in ids))
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
