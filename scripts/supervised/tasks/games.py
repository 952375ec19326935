"""Tasks on games without privileged information: inverse dynamics, game recognition, behaviour cloning.

Inverse dynamics: Pathak et al. 2017. Cloning as pretraining for reinforcement learning: de la Cruz et al. 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from envs.action_replays import load_replays, previous_episodes, resimulate
from envs.episode_record import EpisodeRecord
from envs.errors import ReplayError
from envs.make import check_id, family, make_env
from networks.encoders.base import Encoder
from networks.supervised import metrics
from networks.supervised.data import Data, DataError, Splits, split
from networks.supervised.fit import FitConfig, balanced_weights
from networks.supervised.models import InverseDynamicsModel, SupervisedModel
from scripts.supervised.tasks.atari import make_atari, random_play
from scripts.supervised.tasks.base import ClassificationTask, Collected, DataOptions, Goal, Report

GAMES = ("Breakout", "Freeway", "MsPacman", "Pong", "Seaquest", "SpaceInvaders")
"""The classes of game-recognition."""
TEST_SEED = 1_000_000
"""First seed of the games that a clone is tested on; demonstrations use lower seeds."""


class InverseDynamics(ClassificationTask):
    """Predict the action between two observations; the player's actions are the labels."""

    name = "inverse-dynamics"
    summary = "predict the action between two observations of an Atari game (--env)"
    arch = "nature"
    examples = 6_000
    config = FitConfig(epochs=12, batch_size=64, learning_rate=1e-3, class_weights="balanced")
    headline = ("f1", "accuracy", "f1_over_majority")
    goals = (Goal("f1_over_majority", 2.0, 120.0),)
    sources = ("env", "image_size")
    goal_envs = ("ALE/Pong-v5", "ALE/Freeway-v5")
    logistic = False

    def collect(self, options: DataOptions) -> Collected:
        """Play at random and record both observations and the action at every 8th step."""
        self.env = options.env or "ALE/Pong-v5"
        rng, env = np.random.default_rng(options.seed), make_atari(self.env, options.image_size)
        self.obs_space = env.observation_space
        self.actions = tuple(env.unwrapped.get_action_meanings())  # type: ignore[attr-defined]
        pairs, actions, games, steps = random_play(
            env, options.examples, rng, lambda env, before, action, after: (np.stack([before, after]), action)
        )
        data = Data(pairs, {"action": actions}, games)
        facts = {"source": f"random play of {self.env}", "env_frames": 4 * steps}
        return Collected(split(data, rng, (0.7, 0.1, 0.2)), facts)

    def space(self) -> spaces.Space:
        """Return the space of one observation."""
        return self.obs_space

    def observations(self, data: Data) -> np.ndarray:
        """Return the earlier observation of each pair."""
        return data.x[:, 0]

    def input_meaning(self) -> dict[str, Any]:
        """Return the environment id."""
        return {"env": self.env}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Names of the actions."""
        return {"action": self.actions}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> SupervisedModel:
        """Return the inverse model on an encoder."""
        count = len(self.actions)
        weights = balanced_weights(train, {"action": count})["action"] if config.class_weights == "balanced" else None
        return InverseDynamicsModel(encoder, "action", count, weights)

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return classification metrics with the ratio of F1 to the majority class's."""
        report = super().report(model, data)
        majority = metrics.majority_baseline(data.y["action"], data.y["action"])["f1"]
        return Report({**report.metrics, "f1_over_majority": report.metrics["f1"] / max(majority, 1e-9)}, report.heads)


class GameRecognition(ClassificationTask):
    """Classify which Atari game a frame is from."""

    name = "game-recognition"
    summary = f"classify {len(GAMES)} Atari games by their frames"
    arch = "nature"
    examples = 1_800
    config = FitConfig(epochs=3, batch_size=64, learning_rate=1e-3)
    goals = (Goal("accuracy", 0.99, 60.0),)
    sources = ("image_size",)
    logistic = False

    def collect(self, options: DataOptions) -> Collected:
        """Play each game at random."""
        rng, parts, total = np.random.default_rng(options.seed), [], 0
        for label, name in enumerate(GAMES):
            env = make_atari(f"ALE/{name}-v5", options.image_size)
            self.obs_space = env.observation_space
            count = max(options.examples // len(GAMES), 10)
            # segments of a game are groups, since one game can be longer than all its examples
            frames, games, steps = random_play(env, count, rng, lambda env, before, action, after: (after.copy(),))
            segments = games * 1_000 + np.arange(count) // max(count // 10, 1)
            parts.append(Data(frames, {"game": np.full(count, label)}, 1_000_000 * label + segments))
            total += steps
        by_game = [split(part, rng, (0.6, 0.2, 0.2)) for part in parts]
        splits = Splits(*(_concatenate([each[index] for each in by_game]) for index in range(3)))
        return Collected(splits, {"source": "random play", "env_frames": 4 * total})

    def space(self) -> spaces.Space:
        """Return the space of the games' observations."""
        return self.obs_space

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Names of the games."""
        return {"game": GAMES}


def _concatenate(parts: Sequence[Data]) -> Data:
    heads = {name: np.concatenate([part.y[name] for part in parts]) for name in parts[0].y}
    return Data(np.concatenate([part.x for part in parts]), heads, np.concatenate([part.group for part in parts]))


class Cloning(ClassificationTask):
    """Predict an expert's actions: BabyAI's bot, or the recorded games of a run."""

    name = "cloning"
    summary = "imitate BabyAI's bot (--env), or the recorded games of a run (--data RUN)"
    arch = "bow"
    examples = 26_000
    config = FitConfig(epochs=7, batch_size=128, learning_rate=1e-3)
    headline = ("accuracy", "f1")
    goals = (Goal("played/success", 0.95, 600.0),)
    sources = ("path", "env")
    logistic = False
    test_games = 512
    """Games that a clone of the bot is tested on."""

    def collect(self, options: DataOptions) -> Collected:
        """Record the expert's steps; each is an example and each game a group."""
        rng = np.random.default_rng(options.seed)
        if options.path is not None:
            steps, facts = self._recorded(options.path), {"source": f"games of {options.path.name}"}
        else:
            self.env = options.env or "BabyAI-GoToRedBall-v0"
            steps, facts = self._demonstrated(), {"source": f"BabyAI's bot on {self.env}"}
        images, actions, games = [], [], []
        for image, action, game in steps:
            images.append(image)
            actions.append(action)
            games.append(game)
            if len(images) >= options.examples:
                break
        if not images:
            raise DataError("the demonstrations have no steps")
        data = Data(np.stack(images), {"action": np.array(actions, np.int64)}, np.array(games))
        return Collected(
            split(data, rng, (0.8, 0.1, 0.1)), {**facts, "env_frames": len(images), "games": len(set(games))}
        )

    def _read_spaces(self, env: gym.Env) -> str | None:
        """Set the actions and the image space; return the image's key in a Dict observation, or None."""
        space = env.observation_space
        key = "image" if isinstance(space, spaces.Dict) and "image" in space.spaces else None
        part = space["image"] if isinstance(space, spaces.Dict) and key else space
        if not isinstance(part, spaces.Box) or len(part.shape) != 3:
            raise DataError(f"cloning needs image observations, which {self.env} does not have")
        if not isinstance(env.action_space, spaces.Discrete):
            raise DataError(f"cloning needs discrete actions, which {self.env} does not have")
        self.obs_space, self.key = part, key
        self.actions = tuple(str(number) for number in range(int(env.action_space.n)))
        return key

    def _demonstrated(self) -> Iterator[tuple[np.ndarray, int, int]]:
        """Yield (image, action, game) of BabyAI's bot."""
        check_id(self.env)
        if family(self.env) != "minigrid" or not self.env.startswith("BabyAI"):
            raise DataError(f"the bot plays BabyAI only, not {self.env}; give --data RUN for the games of an agent")
        from minigrid.utils.baby_ai_bot import BabyAIBot

        env = make_env(self.env, render_mode=None)
        key = self._read_spaces(env)
        for game in range(TEST_SEED):
            obs, _ = env.reset(seed=game)
            bot, action, over = BabyAIBot(env.unwrapped), None, False
            while not over:
                action = int(bot.replan(action))
                yield obs[key] if key else obs, action, game
                obs, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated

    def _recorded(self, path: Path) -> Iterator[tuple[np.ndarray, int, int]]:
        """Yield (image, action, game) of a run's recorded games, best return first."""
        records = _records(path)
        self.env = records[0].env_id
        for game in sorted(range(len(records)), key=lambda index: -records[index].episode_return):
            before: Any = None
            try:
                for moment in resimulate(records[game], previous_episodes(records, game), make_env, None):
                    if before is None:
                        key = self._read_spaces(moment.env)
                    else:
                        yield before, int(moment.action), game
                    before = np.array(moment.obs[key] if key else moment.obs)
            except ReplayError as error:
                raise DataError(f"game {game} cannot be replayed: {error}") from error

    def space(self) -> spaces.Space:
        """Return the space of the image."""
        return self.obs_space

    def input_meaning(self) -> dict[str, Any]:
        """Return the environment id and the key of the image in its observations."""
        return {"env": self.env, "part": self.key}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Numbers of the actions."""
        return {"action": self.actions}

    def play(self, model: SupervisedModel) -> dict[str, float]:
        """Play BabyAI greedily on seeds without demonstrations; return success rate and mean return."""
        if family(self.env) != "minigrid":
            return {}
        env = make_env(self.env, render_mode=None)
        returns = [self._play_game(env, model, TEST_SEED + number) for number in range(self.test_games)]
        return {"success": float(np.mean([value > 0 for value in returns])), "return": float(np.mean(returns))}

    def _play_game(self, env: gym.Env, model: SupervisedModel, seed: int) -> float:
        obs, _ = env.reset(seed=seed)
        total, over = 0.0, False
        device = next(model.parameters()).device
        while not over:
            image = torch.from_numpy(obs[self.key] if self.key else obs)[None].to(device)
            with torch.inference_mode():
                action = int(model.predict(image)["action"].argmax())
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        return total


def _records(path: Path) -> list[EpisodeRecord]:
    """Return a run's evaluation games, or its training games if there are none; or the games of a file."""
    files = [path] if path.is_file() else [path / "replays" / f"{kind}.jsonl" for kind in ("eval", "train")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise DataError(f"{path} has no recorded games; give a run folder, or a .jsonl of its replays")
    try:
        return load_replays(file)
    except ReplayError as error:
        raise DataError(str(error)) from error
