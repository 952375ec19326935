"""Wrappers that Gymnasium lacks: what a game shows becomes arrays of one fixed shape."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class SeededMinAtar(gym.Wrapper):
    """Have a seed decide everything: MinAtar remembers the last action across resets, and may repeat it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game; with a seed, as a new environment would."""
        if seed is not None:
            self.unwrapped.game.last_action = 0  # type: ignore[attr-defined]
        return self.env.reset(seed=seed, options=options)


def bounded_actions(env: gym.Env) -> gym.Env:
    """Have -1 to 1 span what each continuous action may be, and cut what an agent chooses beyond that."""
    space = env.action_space
    assert isinstance(space, spaces.Box)
    if np.isfinite(space.low).all() and np.isfinite(space.high).all():
        env = gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    return gym.wrappers.ClipAction(env)


class ChannelsFirst(gym.ObservationWrapper):
    """Turn an image or a stack of planes [H, W, C] into [C, H, W]; truth values become 0 and 1."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        dtype: Any = np.uint8 if space.dtype == np.bool_ else space.dtype
        low, high = (np.moveaxis(bound, 2, 0).astype(dtype) for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=dtype)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """[H, W, C] -> [C, H, W]."""
        return np.ascontiguousarray(np.moveaxis(observation, 2, 0), self.observation_space.dtype)


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


class AroundRecorder(gym.vector.VectorWrapper):
    """A wrapper around `RecordEpisodes`: what it changes is seen by the agent, and is no part of a recorded game."""

    @property
    def card(self) -> dict[str, Any]:
        """What a score means here, as `RecordEpisodes` inside has it: Gymnasium's wrappers hide what they wrap."""
        return self.env.card  # type: ignore[attr-defined]


class Flicker(AroundRecorder):
    """Blank every frame with a chance of `probability`, so that what the game shows must be remembered.

    Flickering Pong of Hausknecht & Stone 2015 (section 5: 0.5). A frame that is blank is so in every stack of
    `frame_stack` frames that it is part of; the frames that fill an episode's first stack share one fate. What is drawn
    follows from the seeds of `reset`.
    """

    def __init__(self, envs: gym.vector.VectorEnv, probability: float, frame_stack: int = 1):
        super().__init__(envs)
        space = envs.single_observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(f"its observations are not images but {space}")
        if isinstance(probability, bool | str) or not 0.0 <= probability < 1.0:
            raise ValueError(f"the chance of a blank frame must lie in 0 to below 1, not {probability}")
        self.probability, self.frame_stack = probability, frame_stack

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew; without seeds what is blank is drawn from the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(seed)
        self.dead = np.zeros(self.num_envs, bool)
        self.seen = np.repeat(self._draw()[:, None], self.frame_stack, axis=1)  # [N, K], oldest frame first
        return self._blanked(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        fresh = self._draw()[:, None]
        self.seen = np.where(self.dead[:, None], fresh, np.concatenate([self.seen[:, 1:], fresh], axis=1))
        self.dead = terminated | truncated  # NEXT_STEP autoreset: the next observation opens an episode
        return self._blanked(obs), reward, terminated, truncated, info

    def _draw(self) -> np.ndarray:
        return self.generator.random(self.num_envs) >= self.probability

    def _blanked(self, obs: np.ndarray) -> np.ndarray:
        """[N, C, H, W]: each frame has C / K channels."""
        seen = np.repeat(self.seen, obs.shape[1] // self.frame_stack, axis=1)
        return obs * seen[:, :, None, None].astype(obs.dtype)


class ObserveLast(AroundRecorder):
    """Show the last action, as a one-hot `last_action`, and the last reward, as `last_reward`, beside the observation.

    Both are 0 where an episode begins. The reward is shown as sign(r) log(1 + |r|), since no game bounds it. A plain
    observation becomes the part `obs` of a Dict. Wants NEXT_STEP autoreset and numbered actions.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space, actions = envs.single_observation_space, envs.single_action_space
        assert isinstance(actions, spaces.Discrete), "numbered actions only"
        self.identity = np.eye(int(actions.n), dtype=np.float32)
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"obs": space}
        parts["last_action"] = spaces.Box(0.0, 1.0, (int(actions.n),), np.float32)
        parts["last_reward"] = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.single_observation_space = spaces.Dict(parts)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        obs, info = self.env.reset(**options)
        self.dead = np.zeros(self.num_envs, bool)
        shape = (self.num_envs, len(self.identity))
        return self._with(obs, np.zeros(shape, np.float32), np.zeros(self.num_envs)), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        alive = ~self.dead  # the step after an end only reset, and what it shows opens an episode
        self.dead = terminated | truncated
        shown = self._with(obs, self.identity[actions] * alive[:, None], reward * alive)
        return shown, reward, terminated, truncated, info

    def _with(self, obs: Any, action: np.ndarray, reward: np.ndarray) -> dict[str, np.ndarray]:
        parts = obs if isinstance(obs, dict) else {"obs": obs}
        shown = (np.sign(reward) * np.log1p(np.abs(reward))).astype(np.float32)[:, None]
        return {**parts, "last_action": action, "last_reward": shown}


class ObserveMask(AroundRecorder):
    """Show which actions are legal, `info["action_mask"]`, as the part `action_mask` of a Dict observation.

    Numbers of actions side by side where an action consists of several, as of sb3-contrib's maskable PPO. Wants
    NEXT_STEP autoreset; a plain observation becomes the part `obs`.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space, actions = envs.single_observation_space, envs.single_action_space
        sizes = [actions.n] if isinstance(actions, spaces.Discrete) else getattr(actions, "nvec", [])
        if not len(sizes):
            raise ValueError(f"only numbered actions can be masked, not {actions}")
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"obs": space}
        parts["action_mask"] = spaces.MultiBinary(int(sum(sizes)))
        self.single_observation_space = spaces.Dict(parts)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        obs, info = self.env.reset(**options)
        return self._with(obs, info), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return self._with(obs, info), reward, terminated, truncated, info

    def _with(self, obs: Any, info: dict[str, Any]) -> dict[str, np.ndarray]:
        if "action_mask" not in info:
            raise ValueError('this game does not say which actions are legal: its info has no "action_mask"')
        shape = (self.num_envs, self.single_observation_space["action_mask"].shape[0])  # type: ignore[index]
        legal = np.asarray(info["action_mask"]).reshape(shape).astype(bool)
        return {**(obs if isinstance(obs, dict) else {"obs": obs}), "action_mask": legal}


class ReadParts(AroundRecorder):
    """Show features in the place of parts of the observation: {key: (function of [N, ...], width)}.

    `obs` is a plain observation's key. Texts and sounds, which stay the same for a whole episode, are read once.
    """

    KEPT = 2_000
    """Features of texts and sounds that are remembered."""

    def __init__(self, envs: gym.vector.VectorEnv, readers: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]]):
        super().__init__(envs)
        self.readers, self.known = readers, {key: dict[bytes, np.ndarray]() for key in readers}
        space = envs.single_observation_space
        shown = {key: spaces.Box(-np.inf, np.inf, (width,), np.float32) for key, (_, width) in readers.items()}
        self.single_observation_space = (
            spaces.Dict({**space.spaces, **shown}) if isinstance(space, spaces.Dict) else shown["obs"]
        )
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        obs, info = self.env.reset(**options)
        return self._read(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, *rest = self.env.step(actions)
        return self._read(obs), *rest  # type: ignore[return-value]

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset those that have ended, as `RecordEpisodes.restart` does."""
        obs, info = self.env.restart(ended)  # type: ignore[attr-defined]
        return self._read(obs), info

    def _read(self, obs: Any) -> Any:
        if isinstance(obs, dict):
            return {**obs, **{key: self._features(key, obs[key]) for key in self.readers}}
        return self._features("obs", obs)

    def _features(self, key: str, x: np.ndarray) -> np.ndarray:
        read, known = self.readers[key][0], self.known[key]
        if x.ndim > 2:  # pictures are hardly ever the same
            return read(x)
        names = [row.tobytes() for row in x]
        fresh = {name: index for index, name in enumerate(names) if name not in known}
        if fresh:
            if len(known) > self.KEPT:
                for name in list(known)[: self.KEPT // 2]:
                    del known[name]
                fresh = {name: index for index, name in enumerate(names) if name not in known}
            known.update(zip(fresh, read(x[list(fresh.values())]), strict=True))
        return np.stack([known[name] for name in names])


class MissionChannel(AroundRecorder):
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
