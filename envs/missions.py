"""Missions of MiniGrid's games: as arrays, taken strictly, of some pairs only, and given in other ways."""

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


class GridPlanes(gym.ObservationWrapper):
    """Turn MiniGrid's observation into arrays: one binary plane per object, colour and state, and word numbers.

    image [7, 7, 3] of category numbers -> uint8 [20, 7, 7]; direction stays a number; mission -> `max_words` token ids,
    0 for padding and 1 for a word outside the vocabulary.
    """

    SIZES = (11, 6, 3)

    def __init__(self, env: gym.Env, max_words: int = 64):
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        height, width, _ = env.observation_space["image"].shape  # type: ignore[misc]
        self.words = {word: number for number, word in enumerate(VOCABULARY, start=2)}
        self.max_words = max_words
        self.observation_space = spaces.Dict(
            {
                "direction": spaces.Discrete(4),
                "image": spaces.Box(0, 1, (sum(self.SIZES), height, width), np.uint8),
                "mission": spaces.MultiDiscrete([len(VOCABULARY) + 2] * max_words),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game, without MiniGrid's remarks about rejected layouts on the standard output."""
        with contextlib.redirect_stdout(io.StringIO()):
            return super().reset(seed=seed, options=options)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Encode one observation."""
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
        """Return the numbers of the mission's words, int64 [max_words]."""
        numbers = [self.words.get(word, 1) for word in re.findall(r"[a-z]+", mission.lower())][: self.max_words]
        return np.array(numbers + [0] * (self.max_words - len(numbers)), np.int64)


def is_babyai(env: gym.Env) -> bool:
    """Say whether a game is one of BabyAI's levels, which have missions that can be checked and a bot that plays."""
    return "RoomGridLevel" in (base.__name__ for base in type(env.unwrapped).__mro__)


class StrictMission(gym.Wrapper):
    """End a BabyAI game without reward as soon as the agent faces (go to) or holds (pick up) a wrong object.

    In BabyAI that costs nothing, so that an agent that does not read the mission tries everything, and succeeds.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        if not is_babyai(env):
            raise ValueError("only BabyAI's games have missions that can be taken strictly")

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step; see the class."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        wrong = not terminated and self._wrong()
        return obs, 0.0 if wrong else reward, terminated or wrong, truncated, info

    def _wrong(self) -> bool:
        game: Any = self.unwrapped
        kind: str = type(game.instrs).__name__
        if kind == "GoToInstr":
            cell = game.grid.get(*game.front_pos)
            thing = cell is not None and cell.type in ("ball", "box", "key", "door")
            return thing and cell not in game.instrs.desc.obj_set
        held = game.carrying
        return kind == "PickupInstr" and held is not None and held not in game.instrs.desc.obj_set


HELD_OUT = frozenset({("red", "ball"), ("blue", "key"), ("green", "box"), ("yellow", "door"), ("purple", "ball")})
"""Pairs of colour and type that are never asked for in training (`pairs seen`), and only those (`pairs unseen`)."""


class MissionPairs(gym.Wrapper):
    """Draw games anew until the mission has no pair of `HELD_OUT` (seen), or has one (unseen)."""

    def __init__(self, env: gym.Env, pairs: str):
        super().__init__(env)
        if pairs not in ("seen", "unseen"):
            raise ValueError(f"pairs must be seen or unseen, not {pairs}")
        self.pairs = pairs

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game with such a mission."""
        obs, info = self.env.reset(seed=seed, options=options)
        for _ in range(1_000):
            unseen = any(f"{color} {kind}" in obs["mission"] for color, kind in HELD_OUT)
            if unseen == (self.pairs == "unseen"):
                return obs, info
            obs, info = self.env.reset(options=options)
        raise ValueError(f"this game has no missions of {self.pairs} pairs")


class MissionChannel(AgentSideWrapper):
    """Give missions in another way: `give(text, seed) -> array` is asked once for each episode of each environment.

    The seed follows from that of `reset` and the number of the episode, so that voices and wordings vary, and are the
    same whenever the same game is played again. `said` is given in the place of the game's own mission.
    """

    def __init__(
        self, envs: gym.vector.VectorEnv, give: Callable[[str, int], np.ndarray], space: spaces.Space,
        said: str | None = None,
    ):  # fmt: skip
        super().__init__(envs)
        parts = envs.single_observation_space
        if not isinstance(parts, spaces.Dict) or "mission" not in parts.spaces:
            raise ValueError(f"this game has no missions: its observations are {parts}")
        self.give, self.said = give, said
        self.single_observation_space = spaces.Dict({**parts.spaces, "mission": space})
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        obs, info = self.env.reset(seed=seed, options=options)
        seeds = seed if isinstance(seed, list | tuple | np.ndarray) else [seed or 0] * self.num_envs
        self.seeds, self.played = [int(number) for number in seeds], [0] * self.num_envs
        self.dead = np.zeros(self.num_envs, bool)
        self.given: list[Any] = [None] * self.num_envs
        return self._given(obs, np.ones(self.num_envs, bool)), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        begun, self.dead = self.dead, terminated | truncated
        return self._given(obs, begun), reward, terminated, truncated, info

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset those that have ended, as `RecordEpisodes.restart` does."""
        obs, info = self.env.restart(ended)  # type: ignore[attr-defined]
        self.dead = np.zeros(self.num_envs, bool)
        return self._given(obs, ended), info

    def _given(self, obs: dict[str, np.ndarray], begun: np.ndarray) -> dict[str, np.ndarray]:
        for env in np.flatnonzero(begun):
            text = mission_text(obs["mission"][env]) if self.said is None else self.said
            seed = np.random.SeedSequence([self.seeds[env], self.played[env]]).generate_state(1)[0]
            self.given[env], self.played[env] = self.give(text, int(seed)), self.played[env] + 1
        return {**obs, "mission": np.stack(self.given)}


def mission_text(tokens: np.ndarray) -> str:
    """Return the words of a mission's token numbers; commas are lost."""
    return " ".join("<unk>" if number == 1 else VOCABULARY[number - 2] for number in tokens if number)


VOCABULARY = tuple(
    [
        "a",
        "after",
        "and",
        "at",
        "avoid",
        "ball",
        "behind",
        "blue",
        "box",
        "door",
        "end",
        "fetch",
        "find",
        "from",
        "front",
        "get",
        "go",
        "goal",
        "green",
        "grey",
        "hallway",
        "in",
        "key",
        "lava",
        "left",
        "matching",
        "must",
        "near",
        "next",
        "object",
        "of",
        "on",
        "open",
        "opening",
        "pick",
        "purple",
        "put",
        "reach",
        "red",
        "right",
        "room",
        "rooms",
        "square",
        "the",
        "then",
        "to",
        "traverse",
        "unlock",
        "up",
        "use",
        "yellow",
        "you",
        "your",
    ]
)
"""Every word of the missions of the registered MiniGrid and BabyAI environments; another word becomes token 1."""
