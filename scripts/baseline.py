"""Stable-Baselines3's DQN and QR-DQN on our environments: `sb3-dqn` and `sb3-qr-dqn` of `benchmark.py learn`.

baseline.py sb3-dqn --env CartPole-v1 --seed 0 --total-steps 50000 --run-dir FOLDER [--learning-rate V ...]

They see and score the games that our agents do, one environment at a time as SB3 has it by default. The reward's sign
and the lost life that ends an episode are for learning on Atari alone; scores are raw and of full games. The run folder
is read by agents/statistics.py and compare.py as ours are, with `result.json` once all is done. It cannot be resumed: a
half-done folder is trained anew. Where the settings come from (SB3 2.9, rl-baselines3-zoo 22e3ff2):

CartPole-v1  the zoo's, the same for both: learning rate 2.3e-3, batches of 64, buffer 100k, start 1,000, target 10, 128
             updates every 256 steps, epsilon to 0.04 over 16 %, two layers of 256; QR-DQN has 10 quantiles.
Atari        the zoo's DQN for both: learning rate 1e-4 (QR-DQN: its class's 5e-5), buffer and start 100k, target 1,000,
             an update of 32 every 4 steps, epsilon to 0.01 over 10 %; SB3's CnnPolicy, which is the Nature CNN.
MinAtar      the zoo's Atari settings, with what Young & Tian 2019 take: the network (our own `minatar` torso and one
             linear layer), a learning rate of 2.5e-4, a target that is 1,000 updates old (4,000 steps, in which SB3
             counts it); and a start at 5,000.
The rest     SB3's own defaults for each class.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium as gym
import numpy as np
import safetensors.torch
import torch

from agents import checkpoint, machine
from agents.baselines import zoo
from agents.baselines.sb3 import require
from agents.evaluate import STUCK_STEPS
from agents.statistics import LAST_GAMES
from envs.make import family, make_env, resolve_protocol
from envs.protocols import describe
from networks.inputs import PLAIN
from networks.torsos import torso_name
from scripts import cli, common

DEFAULTS: dict[str, dict[str, Any]] = {
    "sb3-dqn": {
        "learning_rate": 1e-4, "buffer_size": 1_000_000, "learning_starts": 100, "batch_size": 32, "gamma": 0.99,
        "train_freq": 4, "gradient_steps": 1, "target_update_interval": 10_000, "exploration_fraction": 0.1,
        "exploration_final_eps": 0.05,
    },
}  # fmt: skip
"""Algorithm -> what SB3's class takes by itself."""
DEFAULTS["sb3-qr-dqn"] = DEFAULTS["sb3-dqn"] | {
    "learning_rate": 5e-5, "exploration_fraction": 0.005, "exploration_final_eps": 0.01,
}  # fmt: skip
CARTPOLE = zoo.DQN_CARTPOLE | {"net_arch": list(zoo.DQN_CARTPOLE["net_arch"])}  # as JSON has it
ATARI = zoo.DQN_ATARI
MINATAR = {name: value for name, value in zoo.DQN_MINATAR.items() if name != "torso"}
FRACTIONS = ("gamma", "exploration_fraction", "exploration_final_eps")


class RawGames(gym.Wrapper):
    """Keeps raw return and length of every full game, whatever the wrappers around it do to rewards and ends."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.finished: list[tuple[float, int]] = []
        self.score, self.length = 0.0, 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start a game."""
        self.score, self.length = 0.0, 0
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Count, and note the game if it ends."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.score, self.length = self.score + float(reward), self.length + 1
        if terminated or truncated:
            self.finished.append((self.score, self.length))
        return obs, reward, terminated, truncated, info


def settings(algorithm: str, env_id: str, total_steps: int, rest: Sequence[str]) -> dict[str, Any]:
    """Return every setting of a run apart from its seed; `rest` are options that change single ones."""
    kind = family(env_id)
    vectors: dict[str, Any] = {"net_arch": [64, 64], **(CARTPOLE if env_id == "CartPole-v1" else {})}
    config = {"env": env_id, "total_steps": total_steps, **DEFAULTS[algorithm]}
    config |= {"atari": ATARI, "minatar": MINATAR}.get(kind, vectors)
    config |= {"n_quantiles": 10 if env_id == "CartPole-v1" else 200} if algorithm == "sb3-qr-dqn" else {}
    parser = cli.Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--protocol", default="auto")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--stop-return", type=lambda text: None if text == "None" else float(text))
    parser.add_argument("--stop-episodes", type=int, default=30)
    for name, value in DEFAULTS[algorithm].items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=config[name])
    known, unknown = parser.parse_known_args(list(rest))
    if unknown:
        raise common.ConfigError(f"{algorithm} has no option {unknown[0]}; train it by a command of its own")
    config |= vars(known)
    for name in ("total_steps", "stop_episodes", *DEFAULTS[algorithm]):
        inside = 0 <= config[name] <= 1 if name in FRACTIONS else config[name] > 0 or name == "learning_starts"
        if not inside:
            wanted = "lie in 0 to 1" if name in FRACTIONS else "be above 0"
            raise common.ConfigError(f"--{name.replace('_', '-')} must {wanted}, not {config[name]}")
    resolve_protocol(env_id, config["protocol"], config["image_size"])
    return config


def train(algorithm: str, config: dict[str, Any], seed: int, folder: Path, episodes: int, threads: int) -> None:
    """Train, judge and write `folder`; where all but `episodes` is as it was, only judge again."""
    games = RawGames(_game(config))
    torch.set_num_threads(threads or (machine.usable_cores() if torso_name(games.observation_space) == "nature" else 1))
    model = _model(algorithm, config, games, seed)
    print(f"{algorithm} on {config['env']}, seed {seed}, {model.device}: {json.dumps(config)}", flush=True)
    result, weights = folder / "result.json", folder / "policy.safetensors"
    facts: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    if facts.get("hyperparameters") == config and weights.exists():
        model.policy.load_state_dict(safetensors.torch.load_file(weights))
    else:
        result.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        common.write_json(folder / "config.json", checkpoint.seal(_record(algorithm, config, seed)))
        facts = _learn(model, games, config, folder)
        state = {name: value.cpu().contiguous() for name, value in model.policy.state_dict().items()}
        safetensors.torch.save_file(state, weights)
    facts |= {"algo": algorithm, "hyperparameters": config, "versions": machine.versions()}
    facts["evaluation"] = judge(model, config, episodes) if episodes else None
    common.write_json(result, facts)
    print(f"done after {facts['env_steps']:,} env steps and {facts['wall_seconds']:.0f} s: score {facts['score']}")


def judge(model: Any, config: dict[str, Any], episodes: int) -> dict[str, Any]:
    """Let the greedy policy play full games; one that does not end is counted as far as it went."""
    games = RawGames(_game(config))
    seed = common.judging_seed()
    for episode in range(episodes):
        obs, _ = games.reset(seed=seed + episode)
        while len(games.finished) == episode:
            action, _ = model.predict(obs, deterministic=True)
            obs, *_ = games.step(int(action))
            if games.length >= STUCK_STEPS and len(games.finished) == episode:
                games.finished.append((games.score, games.length))
    returns, lengths = zip(*games.finished, strict=True)
    return {
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
        "episodes": episodes,
        "returns": list(returns),
        "length_mean": float(np.mean(lengths)),
    }


def _game(config: dict[str, Any]) -> gym.Env:
    protocol = resolve_protocol(config["env"], config["protocol"], config["image_size"])
    return make_env(config["env"], protocol, render_mode=None)


def _model(algorithm: str, config: dict[str, Any], games: RawGames, seed: int) -> Any:
    """Build SB3's agent around the game."""
    from sb3_contrib import QRDQN
    from stable_baselines3 import DQN
    from stable_baselines3.common.atari_wrappers import ClipRewardEnv, EpisodicLifeEnv
    from stable_baselines3.common.vec_env import DummyVecEnv

    from agents.baselines.adapters import TorsoFeatures

    space, env = games.observation_space, cast(gym.Env, games)
    torso = torso_name(space)
    ours = {"torso": "minatar", "style": PLAIN}
    networks: dict[str, tuple[str, dict[str, Any]]] = {
        "mlp": ("MlpPolicy", {"net_arch": config.get("net_arch", [64, 64])}),
        "minatar": (
            "MlpPolicy",
            {"net_arch": [], "features_extractor_class": TorsoFeatures, "features_extractor_kwargs": ours},
        ),
        "nature": ("CnnPolicy", {}),
    }
    if torso not in networks or not isinstance(games.action_space, gym.spaces.Discrete):
        raise common.ConfigError(f"{algorithm} plays by numbers or one image and numbered actions, not {space}")
    if family(config["env"]) == "atari":
        protocol = resolve_protocol(config["env"], config["protocol"], config["image_size"])
        env = ClipRewardEnv(EpisodicLifeEnv(games) if protocol.life_information else games)
    policy, policy_kwargs = networks[torso]
    if "n_quantiles" in config:
        policy_kwargs = policy_kwargs | {"n_quantiles": config["n_quantiles"]}
    needed = 2 * config["buffer_size"] * int(np.prod(space.shape)) * space.dtype.itemsize  # type: ignore
    if needed > machine.available_memory():
        raise common.ConfigError(f"the buffer needs {needed / 1e9:.1f} GB, more than is free; lower --buffer-size")
    values = {name: config[name] for name in DEFAULTS[algorithm]}
    kind = QRDQN if algorithm == "sb3-qr-dqn" else DQN
    return kind(policy, DummyVecEnv([lambda: env]), **values, policy_kwargs=policy_kwargs, seed=seed, device="auto")


def _learn(model: Any, games: RawGames, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train to the end, one line of metrics a game; return what came out."""
    returns: list[float] = []
    solved, begin = False, time.monotonic()
    with open(folder / "metrics.jsonl", "a", buffering=1) as file:  # a line reaches the disk as it is written
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise common.ConfigError(f"{folder} is being trained by another process; stop that first") from error
        file.truncate(0)

        def log(**values: float) -> None:
            seconds = round(time.monotonic() - begin, 3)
            file.write(json.dumps({"env_steps": model.num_timesteps, "wall_seconds": seconds, **values}) + "\n")

        def on_step(local: dict[str, Any], _: dict[str, Any]) -> bool:
            nonlocal solved
            for score, length in games.finished:
                returns.append(score)
                log(**{"episode/return": score, "episode/length": length})
            recent, wanted = returns[-config["stop_episodes"] :], config["stop_return"]
            if games.finished and wanted is not None and len(recent) == config["stop_episodes"]:
                solved = sum(recent) / len(recent) >= wanted
            games.finished.clear()
            return not solved

        model.learn(config["total_steps"], callback=on_step)
        seconds = time.monotonic() - begin
        log(**{"time/steps_per_second": model.num_timesteps / seconds})
    score = float(np.mean(returns[-LAST_GAMES:])) if returns else None
    return {"env_steps": model.num_timesteps, "wall_seconds": seconds, "solved": solved, "score": score}


def _record(algorithm: str, config: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return what makes the folder a run for agents/statistics.py."""
    protocol = resolve_protocol(config["env"], config["protocol"], config["image_size"])
    return {
        "algo": algorithm,
        "env_id": config["env"],
        "seed": seed,
        "config": config,
        "card": describe(config["env"], protocol, {}, family(config["env"])),
        "machine_facts": {"threads": torch.get_num_threads()},
        **common.origin(),
    }


def main() -> None:
    """Parse, train."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("algorithm", choices=tuple(DEFAULTS))
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--total-steps", type=int, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--eval-episodes", type=int, default=30)
    parser.add_argument("--threads", type=int, default=0)
    given, rest = parser.parse_known_args()
    require()
    config = settings(given.algorithm, given.env, given.total_steps, rest)
    train(given.algorithm, config, given.seed, given.run_dir, given.eval_episodes, given.threads)


if __name__ == "__main__":
    common.guarded(main)
