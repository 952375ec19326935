"""Tasks on games that need no look into the machine: what was done, which game it is, what an expert would do.

Inverse dynamics: Pathak et al. 2017. Behaviour cloning before reinforcement learning: de la Cruz et al. 2019.
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
from networks.supervised.models import InverseDynamicsModel, Supervised
from scripts.supervised.tasks.atari import atari_game, play
from scripts.supervised.tasks.base import ClassTask, Collected, DataOptions, Goal

GAMES = ("Breakout", "Freeway", "MsPacman", "Pong", "Seaquest", "SpaceInvaders")
"""What game-recognition tells apart."""
JUDGED_SEED = 1_000_000
"""The first seed of games that a clone is judged by; demonstrations have lower ones."""


class InverseDynamics(ClassTask):
    """Which action lies between two observations? No label is needed but what the player did."""

    name = "inverse-dynamics"
    summary = "name the action between two observations of an Atari game (--env)"
    arch = "nature"
    examples = 6_000
    config = FitConfig(epochs=12, batch_size=64, learning_rate=1e-3, class_weights="balanced")
    headline = ("f1", "accuracy", "f1_over_majority")
    goals = (Goal("f1_over_majority", 2.0, 120.0),)
    games = ("ALE/Pong-v5", "ALE/Freeway-v5")
    logistic = False

    def collect(self, options: DataOptions) -> Collected:
        """Play at random, and take every 8th step: what was seen before and after it, and the action."""
        if options.path is not None:
            raise DataError("inverse-dynamics takes no --data: it plays the game")
        self.env = options.env or "ALE/Pong-v5"
        rng, env = np.random.default_rng(options.seed), atari_game(self.env, options.image_size)
        self.observed = env.observation_space
        self.actions = tuple(env.unwrapped.get_action_meanings())  # type: ignore[attr-defined]
        pairs, actions, games, steps = play(env, options.examples, rng, lambda env, a, act, b: (np.stack([a, b]), act))
        data = Data(pairs, {"action": actions}, games)
        facts = {"source": f"random play of {self.env}", "env_frames": 4 * steps}
        return Collected(split(data, rng, (0.7, 0.1, 0.2)), facts)

    def space(self) -> spaces.Space:
        """Return that of one observation."""
        return self.observed

    def seen(self, data: Data) -> np.ndarray:
        """Return the earlier ones."""
        return data.x[:, 0]

    def meaning(self) -> dict[str, Any]:
        """Return the game."""
        return {"env": self.env}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Names of the buttons."""
        return {"action": self.actions}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> Supervised:
        """Put the inverse model on the encoder."""
        count = len(self.actions)
        weights = balanced_weights(train, {"action": count})["action"] if config.class_weights == "balanced" else None
        return InverseDynamicsModel(encoder, "action", count, weights)

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Return the usual, and how many times the F1 of the commonest action is reached."""
        found = super().report(model, data)
        common = metrics.majority_baseline(data.y["action"], data.y["action"])["f1"]
        return {**found, "f1_over_majority": found["f1"] / max(common, 1e-9)}


class GameRecognition(ClassTask):
    """Which game is this? Easy, and of use to choose an agent."""

    name = "game-recognition"
    summary = f"tell {len(GAMES)} Atari games apart by a glance"
    arch = "nature"
    examples = 1_800
    config = FitConfig(epochs=3, batch_size=64, learning_rate=1e-3)
    goals = (Goal("accuracy", 0.99, 60.0),)
    logistic = False

    def collect(self, options: DataOptions) -> Collected:
        """Play each game at random."""
        if options.path is not None or options.env is not None:
            raise DataError("game-recognition takes no --data and no --env: it plays its games")
        rng, parts, total = np.random.default_rng(options.seed), [], 0
        for label, name in enumerate(GAMES):
            env = atari_game(f"ALE/{name}-v5", options.image_size)
            self.observed = env.observation_space
            count = max(options.examples // len(GAMES), 10)
            # pieces of a game are groups, for some last longer than all that is wanted of them
            frames, games, steps = play(env, count, rng, lambda env, before, action, after: (after.copy(),))
            pieces = games * 1_000 + np.arange(count) // max(count // 10, 1)
            parts.append(Data(frames, {"game": np.full(count, label)}, 1_000_000 * label + pieces))
            total += steps
        whole = [split(part, rng, (0.6, 0.2, 0.2)) for part in parts]
        splits = Splits(*(_joined([each[index] for each in whole]) for index in range(3)))
        return Collected(splits, {"source": "random play", "env_frames": 4 * total})

    def space(self) -> spaces.Space:
        """Return that of the games' observations."""
        return self.observed

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Names of the games."""
        return {"game": GAMES}


def _joined(parts: Sequence[Data]) -> Data:
    """Put examples together that have the same heads."""
    heads = {name: np.concatenate([part.y[name] for part in parts]) for name in parts[0].y}
    return Data(np.concatenate([part.x for part in parts]), heads, np.concatenate([part.group for part in parts]))


class Cloning(ClassTask):
    """What would the expert do? Demonstrations of BabyAI's bot, or the games that a run has recorded."""

    name = "cloning"
    summary = "do what was done: BabyAI's bot (--env), or a run's recorded games (--data RUN)"
    arch = "bow"
    examples = 26_000
    config = FitConfig(epochs=7, batch_size=128, learning_rate=1e-3)
    headline = ("accuracy", "f1")
    goals = (Goal("played/success", 0.95, 600.0),)
    logistic = False
    judged = 512
    """Games that a clone of the bot is judged by."""

    def collect(self, options: DataOptions) -> Collected:
        """Watch the expert; every step is an example, and a game is never on two sides."""
        rng = np.random.default_rng(options.seed)
        if options.path is not None:
            steps, facts = self._recorded(options.path), {"source": f"games of {options.path.name}"}
        else:
            self.env = options.env or "BabyAI-GoToRedBall-v0"
            steps, facts = self._demonstrated(), {"source": f"BabyAI's bot on {self.env}"}
        seen, actions, games = [], [], []
        for obs, action, game in steps:
            seen.append(obs)
            actions.append(action)
            games.append(game)
            if len(seen) >= options.examples:
                break
        if not seen:
            raise DataError("there is not one step to learn from")
        data = Data(np.stack(seen), {"action": np.array(actions, np.int64)}, np.array(games))
        return Collected(
            split(data, rng, (0.8, 0.1, 0.1)), {**facts, "env_frames": len(seen), "games": len(set(games))}
        )

    def _look(self, env: gym.Env) -> str | None:
        """Note the buttons, and what is looked at: the observation, or the image of a Dict; return its key."""
        space = env.observation_space
        key = "image" if isinstance(space, spaces.Dict) and "image" in space.spaces else None
        part = space["image"] if isinstance(space, spaces.Dict) and key else space
        if not isinstance(part, spaces.Box) or len(part.shape) != 3:
            raise DataError(f"{self.env} is not seen as an image, which cloning looks at")
        if not isinstance(env.action_space, spaces.Discrete):
            raise DataError(f"{self.env} is played with numbers, and cloning chooses among buttons")
        self.observed, self.key = part, key
        self.actions = tuple(str(number) for number in range(int(env.action_space.n)))
        return key

    def _demonstrated(self) -> Iterator[tuple[np.ndarray, int, int]]:
        """Yield what BabyAI's bot sees and does."""
        check_id(self.env)
        if family(self.env) != "minigrid" or not self.env.startswith("BabyAI"):
            raise DataError(f"the bot plays BabyAI's games, not {self.env}; give --data RUN for games of an agent")
        from minigrid.utils.baby_ai_bot import BabyAIBot

        env = make_env(self.env, render_mode=None)
        key = self._look(env)
        for game in range(JUDGED_SEED):
            obs, _ = env.reset(seed=game)
            bot, action, over = BabyAIBot(env.unwrapped), None, False
            while not over:
                action = int(bot.replan(action))
                yield obs[key] if key else obs, action, game
                obs, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated

    def _recorded(self, path: Path) -> Iterator[tuple[np.ndarray, int, int]]:
        """Yield what an agent of ours saw and did, from its best recorded games on."""
        records = _records(path)
        self.env = records[0].env_id
        for game in sorted(range(len(records)), key=lambda index: -records[index].episode_return):
            before: Any = None
            try:
                for moment in resimulate(records[game], previous_episodes(records, game), make_env, None):
                    if before is None:
                        key = self._look(moment.env)
                    else:
                        yield before, int(moment.action), game
                    before = np.array(moment.obs[key] if key else moment.obs)
            except ReplayError as error:
                raise DataError(f"game {game} cannot be played again: {error}") from error

    def space(self) -> spaces.Space:
        """Return that of the image."""
        return self.observed

    def meaning(self) -> dict[str, Any]:
        """Return the game, and which part of its observations is looked at."""
        return {"env": self.env, "part": self.key}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Numbers of the actions."""
        return {"action": self.actions}

    def played(self, model: Supervised) -> dict[str, float]:
        """Play BabyAI as the clone would, likeliest action first, on games that were never demonstrated."""
        if family(self.env) != "minigrid":
            return {}
        env = make_env(self.env, render_mode=None)
        returns = [self._game(env, model, JUDGED_SEED + number) for number in range(self.judged)]
        return {"success": float(np.mean([found > 0 for found in returns])), "return": float(np.mean(returns))}

    def _game(self, env: gym.Env, model: Supervised, seed: int) -> float:
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
    """Return the judged games of a run folder, or its training games where none was judged; or those of a file."""
    files = [path] if path.is_file() else [path / "replays" / f"{kind}.jsonl" for kind in ("eval", "train")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise DataError(f"{path} has no recorded games; give a run folder, or a .jsonl of its replays")
    try:
        return load_replays(found)
    except ReplayError as error:
        raise DataError(str(error)) from error
