"""Missions of MiniGrid's games: as token ids, with wrong objects ending the game, or through other channels."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.wrappers import AgentSideWrapper

# fmt: off
VOCABULARY = (
    "a", "after", "and", "at", "avoid", "ball", "behind", "blue", "box", "door", "end", "fetch", "find", "from",
    "front", "get", "go", "goal", "green", "grey", "hallway", "in", "key", "lava", "left", "matching", "must",
    "near", "next", "object", "of", "on", "open", "opening", "pick", "purple", "put", "reach", "red", "right",
    "room", "rooms", "square", "the", "then", "to", "traverse", "unlock", "up", "use", "yellow", "you", "your",
)
# fmt: on
"""Every word in the missions of the registered MiniGrid and BabyAI environments; any other word becomes token 1."""


class GridPlanes(gym.ObservationWrapper):
    """Turn MiniGrid's observation into arrays.

    image [7, 7, 3] of category numbers -> uint8 [20, 7, 7], one binary plane per object type, colour and state;
    direction stays a number; mission -> token ids [`max_words`], 0 for padding and 1 for a word outside the vocabulary.
    """

    SIZES = (11, 6, 3)
    """Number of object types, colours and states."""

    def __init__(self, env: gym.Env, max_words: int = 64):
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        height, width, _ = env.observation_space["image"].shape  # type: ignore[misc]
        self.token_ids = {word: number for number, word in enumerate(VOCABULARY, start=2)}
        self.max_words = max_words
        self.observation_space = spaces.Dict(
            {
                "direction": spaces.Discrete(4),
                "image": spaces.Box(0, 1, (sum(self.SIZES), height, width), np.uint8),
                "mission": spaces.MultiDiscrete([len(VOCABULARY) + 2] * max_words),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game, and discard MiniGrid's output about rejected layouts."""
        with contextlib.redirect_stdout(io.StringIO()):
            return super().reset(seed=seed, options=options)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Encode one observation; see the class for shapes."""
        planes = [
            observation["image"][None, :, :, layer] == np.arange(size)[:, None, None]
            for layer, size in enumerate(self.SIZES)
        ]
        return {
            "direction": np.int64(observation["direction"]),
            "image": np.concatenate(planes).astype(np.uint8),
            "mission": self.tokens(observation["mission"]),
        }

    def tokens(self, mission: str) -> np.ndarray:
        """Return the token ids of a mission's words, int64 [max_words]."""
        ids = [self.token_ids.get(word, 1) for word in re.findall(r"[a-z]+", mission.lower())][: self.max_words]
        return np.array(ids + [0] * (self.max_words - len(ids)), np.int64)


def mission_text(tokens: np.ndarray) -> str:
    """Return the words of token ids [L]; commas are lost, and padding is dropped."""
    return " ".join("<unk>" if number == 1 else VOCABULARY[number - 2] for number in tokens if number)


def is_babyai(env: gym.Env) -> bool:
    """Return whether the game is a BabyAI level, whose missions can be checked and for which there is a bot."""
    return "RoomGridLevel" in (base.__name__ for base in type(env.unwrapped).__mro__)


class StrictMission(gym.Wrapper):
    """End a BabyAI game with reward 0 once the agent faces (go to) or holds (pick up) a wrong object.

    BabyAI does not punish wrong objects, so an agent that ignores the mission succeeds by trying them all. Raises
    ValueError for games other than BabyAI's.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        if not is_babyai(env):
            raise ValueError("strict missions exist only for BabyAI's games")

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and terminate at a wrong object."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        wrong = not terminated and self._at_wrong_object()
        return obs, 0.0 if wrong else reward, terminated or wrong, truncated, info

    def _at_wrong_object(self) -> bool:
        game: Any = self.unwrapped
        instruction: str = type(game.instrs).__name__
        if instruction == "GoToInstr":
            faced = game.grid.get(*game.front_pos)
            is_object = faced is not None and faced.type in ("ball", "box", "key", "door")
            return is_object and faced not in game.instrs.desc.obj_set
        carried = game.carrying
        return instruction == "PickupInstr" and carried is not None and carried not in game.instrs.desc.obj_set


HELD_OUT = frozenset({("red", "ball"), ("blue", "key"), ("green", "box"), ("yellow", "door"), ("purple", "ball")})
"""Pairs of colour and type that training missions never name (`pairs=seen`), and test missions do (`pairs=unseen`)."""


class MissionPairs(gym.Wrapper):
    """Redraw games until the mission names no pair of `HELD_OUT` (seen), or one (unseen)."""

    def __init__(self, env: gym.Env, pairs: str):
        super().__init__(env)
        if pairs not in ("seen", "unseen"):
            raise ValueError(f"pairs must be seen or unseen, not {pairs}")
        self.pairs = pairs

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game with such a mission; raise ValueError if 1,000 games have none."""
        obs, info = self.env.reset(seed=seed, options=options)
        for _ in range(1_000):
            unseen = any(f"{color} {kind}" in obs["mission"] for color, kind in HELD_OUT)
            if unseen == (self.pairs == "unseen"):
                return obs, info
            obs, info = self.env.reset(options=options)
        raise ValueError(f"this game has no missions of {self.pairs} pairs")


class MissionChannel(AgentSideWrapper):
    """Replace the observation's mission by `encode(text, seed) -> array`, once per episode of each environment.

    The seed follows from the seed of `reset` and the number of the episode, so voices and wordings vary, and are the
    same when the same game is played again. `space` is the space of the arrays. `custom_mission` replaces the text of
    the game's own mission. Raises ValueError for games without missions.
    """

    def __init__(
        self, envs: gym.vector.VectorEnv, encode: Callable[[str, int], np.ndarray], space: spaces.Space,
        custom_mission: str | None = None,
    ):  # fmt: skip
        super().__init__(envs)
        parts = envs.single_observation_space
        if not isinstance(parts, spaces.Dict) or "mission" not in parts.spaces:
            raise ValueError(f"this game has no missions: its observations are {parts}")
        self.encode, self.custom_mission = encode, custom_mission
        self.single_observation_space = spaces.Dict({**parts.spaces, "mission": space})
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        obs, info = self.env.reset(seed=seed, options=options)
        seeds = seed if isinstance(seed, list | tuple | np.ndarray) else [seed or 0] * self.num_envs
        self.seeds, self.episodes = [int(number) for number in seeds], [0] * self.num_envs
        self.dead = np.zeros(self.num_envs, bool)
        self.missions: list[Any] = [None] * self.num_envs
        return self._with_missions(obs, np.ones(self.num_envs, bool)), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments; episodes that start get a new mission."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        started, self.dead = self.dead, terminated | truncated
        return self._with_missions(obs, started), reward, terminated, truncated, info

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset the environments in `ended`, bool [num_envs]; see `RecordEpisodes.restart`."""
        obs, info = self.env.restart(ended)  # type: ignore[attr-defined]
        self.dead = np.zeros(self.num_envs, bool)
        return self._with_missions(obs, ended), info

    def _with_missions(self, obs: dict[str, np.ndarray], started: np.ndarray) -> dict[str, np.ndarray]:
        for env in np.flatnonzero(started):
            text = mission_text(obs["mission"][env]) if self.custom_mission is None else self.custom_mission
            seed = np.random.SeedSequence([self.seeds[env], self.episodes[env]]).generate_state(1)[0]
            self.missions[env], self.episodes[env] = self.encode(text, int(seed)), self.episodes[env] + 1
        return {**obs, "mission": np.stack(self.missions)}
