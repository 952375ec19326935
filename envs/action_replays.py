"""Action replays: record the actions of every episode in a vector environment, and play an episode again from them.

`RecordEpisodes` runs during training, at negligible cost. `resimulate` plays a recorded episode in a single environment
and verifies it: the frame at every 32nd step, the end and the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from envs.episode_record import HASH_EVERY_STEPS, EpisodeRecord, frame_hash, load_replays, previous_episodes
from envs.errors import ReplayError
from envs.protocols import GameSpec, Protocol

__all__ = [
    "EpisodeRecord",
    "RecordEpisodes",
    "ReplayError",
    "ReplayStep",
    "load_replays",
    "previous_episodes",
    "resimulate",
    "verify",
]

MakeEnv = Callable[..., gym.Env]
"""(env_id, protocol=Protocol, env_kwargs=dict, render_mode=str | None) -> one environment."""


class RecordEpisodes(gym.vector.VectorWrapper):
    """Add `info["episodes"]`, a list of `EpisodeRecord`, at every step on which episodes end.

    Works on any vector environment with NEXT_STEP autoreset. The dead row after an end, whose action is ignored, is
    not part of any episode. Episodes cut short by `reset` are not recorded. `game` describes all environments.
    """

    def __init__(self, envs: gym.vector.VectorEnv, game: GameSpec):
        super().__init__(envs)
        assert envs.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP, "NEXT_STEP autoreset only"
        self.game = game
        spec = game.to_json()
        self._game_fields = {key: spec[key] for key in ("env_id", "env_kwargs", "protocol", "family", "fingerprint")}
        self._stacked = game.frame_stack > 1
        self._life_information = game.protocol.life_information
        self._space = envs.single_observation_space
        space = envs.single_action_space
        small = isinstance(space, gym.spaces.Discrete) and space.start >= 0 and space.start + space.n <= 256
        dtype = np.uint8 if small else space.dtype
        self._actions = np.zeros((1024, self.num_envs, *(space.shape or ())), dtype)
        self._generator = np.random.default_rng()

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments; `seed` is one per environment, or k for seeds k + i, or None for random seeds.

        Raises ValueError for options.
        """
        if options:
            raise ValueError("reset takes no options here: an episode that depends on them could not be played again")
        if seed is None:
            self._seeds = self._generator.integers(2**31 - 1, size=self.num_envs)
        else:
            self._seeds = np.asarray(seed) if np.ndim(seed) else seed + np.arange(self.num_envs)
        is_ale = hasattr(self.env.unwrapped, "ale")  # ale-py takes arrays only, Gymnasium lists only
        seeds: Any = self._seeds if is_ale else self._seeds.tolist()
        obs, info = self.env.reset(seed=seeds)
        self._hide(info)
        self._time = 0
        self._dead: list[int] = []
        self._returns = np.zeros(self.num_envs)
        self._ordinals = [0] * self.num_envs
        self._starts = [0] * self.num_envs  # rows of self._actions at which the current episodes start
        self._hashes: list[list[int]] = [[] for _ in range(self.num_envs)]
        self._due: list[set[int]] = [set() for _ in range(HASH_EVERY_STEPS)]
        self._frames = [(0, 0)] * self.num_envs
        for env in range(self.num_envs):
            self._begin(env, info)
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments and record their actions."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._hide(info)
        if self._time == len(self._actions):
            self._make_room()
        self._actions[self._time] = actions
        self._time += 1
        self._returns += reward
        for env in self._dead:
            self._begin(env, info)
        done = terminated | truncated
        self._dead = np.flatnonzero(done).tolist() if done.any() else []
        for env in self._due[self._time % HASH_EVERY_STEPS]:
            if self._time > self._starts[env] and not done[env]:
                self._hashes[env].append(frame_hash(_row(obs, env), self._space, self._stacked))
        if self._dead:
            info["episodes"] = [self._finish(env, terminated, truncated) for env in self._dead]
        return obs, reward, terminated, truncated, info

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset the environments in `ended`, bool [num_envs], whose episodes ended at the last step.

        For learners without NEXT_STEP autoreset (Stable-Baselines3): no dead row follows the end.
        """
        obs, info = self.env.reset(options={"reset_mask": ended})
        self._hide(info)
        for env in np.flatnonzero(ended).tolist():
            self._begin(env, info)
        self._dead = []
        return obs, info

    def _hide(self, info: dict[str, Any]) -> None:
        """Remove the lives from `info` if the protocol does not reveal them."""
        if not self._life_information:
            info.pop("lives", None)

    def _begin(self, env: int, info: dict[str, Any]) -> None:
        """Start an episode; `info` belongs to its first observation."""
        self._starts[env] = self._time
        self._due[self._time % HASH_EVERY_STEPS].add(env)
        self._hashes[env] = []
        self._returns[env] = 0.0
        if "episode_frame_number" in info:
            noops = int(info["episode_frame_number"][env])
            self._frames[env] = (int(info["frame_number"][env]) - noops, noops)

    def _finish(self, env: int, terminated: np.ndarray, truncated: np.ndarray) -> EpisodeRecord:
        start = self._starts[env]
        self._due[start % HASH_EVERY_STEPS].discard(env)
        self._ordinals[env] += 1
        return EpisodeRecord(
            **self._game_fields,
            env=env,
            seed=int(self._seeds[env]),
            ordinal=self._ordinals[env] - 1,
            start_frame=self._frames[env][0],
            noop_frames=self._frames[env][1],
            length=self._time - start,
            episode_return=float(self._returns[env]),
            terminated=bool(terminated[env]),
            truncated=bool(truncated[env]),
            actions=self._actions[start : self._time, env].copy(),
            frame_hashes=tuple(self._hashes[env]),
        )

    def _make_room(self) -> None:
        """Drop the rows before the oldest unfinished episode; double the array if that frees less than half."""
        oldest = min(self._starts) // HASH_EVERY_STEPS * HASH_EVERY_STEPS  # `_due` depends on times modulo 32
        needed = self._actions[oldest:]
        if oldest < len(self._actions) // 2:
            self._actions = np.concatenate([needed, np.zeros_like(self._actions)])
        else:
            self._actions[: len(needed)] = needed.copy()
        self._time -= oldest
        self._starts = [start - oldest for start in self._starts]


def _row(obs: Any, env: int) -> Any:
    return {key: value[env] for key, value in obs.items()} if isinstance(obs, dict) else obs[env]


class ReplayStep(NamedTuple):
    """One step of an episode played again; step 0 is the reset, whose action is None."""

    env: gym.Env
    step: int
    obs: Any
    action: Any
    reward: float
    score: float
    terminated: bool
    truncated: bool


def resimulate(
    record: EpisodeRecord, previous: Sequence[EpisodeRecord], make_env: MakeEnv, render_mode: str | None = "rgb_array"
) -> Iterator[ReplayStep]:
    """Play the episode again, yielding each step; raise ReplayError at the first difference from the record.

    If the start of the episode depends on the `previous` ones (see `previous_episodes`), these are played before it.
    That holds for every Gymnasium environment after its first episode, and for the few Atari games that keep memory
    from one game to the next; an Atari episode is first played alone to see whether it does.
    """
    alone = record.ordinal == 0
    if record.family == "atari" and not alone:
        try:
            for _ in _play(record, (), make_env, None):
                pass
            alone = True
        except ReplayError:
            if not _complete(record, previous):
                raise
    if not alone and not _complete(record, previous):
        raise ReplayError(
            f"the episode depends on the {record.ordinal} before it (environment {record.env}, seed {record.seed}), "
            f"but the file has {len(previous)} of them; use the complete replays file of the run"
        )
    yield from _play(record, () if alone else previous, make_env, render_mode)


def verify(record: EpisodeRecord, previous: Sequence[EpisodeRecord], make_env: MakeEnv) -> None:
    """Play the episode again; raise ReplayError unless frames, end and score match the record."""
    for _ in resimulate(record, previous, make_env, render_mode=None):
        pass


def _complete(record: EpisodeRecord, previous: Sequence[EpisodeRecord]) -> bool:
    return [item.ordinal for item in previous] == list(range(record.ordinal)) and all(
        (item.seed, item.fingerprint) == (record.seed, record.fingerprint) for item in previous
    )


def _play(
    record: EpisodeRecord, previous: Sequence[EpisodeRecord], make_env: MakeEnv, render_mode: str | None
) -> Iterator[ReplayStep]:
    """Play `previous`, then `record`; without `previous`, an Atari game starts from its recorded frame."""
    try:
        protocol = Protocol(**record.protocol)
        env = make_env(record.env_id, protocol=protocol, env_kwargs=record.env_kwargs, render_mode=render_mode)
    except (ValueError, TypeError, gym.error.Error) as error:
        raise ReplayError(f"{record.env_id} cannot be made here: {error}") from error
    try:
        for episode in previous:
            for _ in _steps(env, episode, chained=True):
                pass
        yield from _steps(env, record, chained=bool(previous))
    finally:
        env.close()


def _steps(env: gym.Env, record: EpisodeRecord, chained: bool) -> Iterator[ReplayStep]:
    options: dict[str, Any] | None = None
    if record.family == "atari":
        options = {"noop_frames": record.noop_frames}
        if not chained:
            options |= {"start_frame": record.start_frame, "ordinal": record.ordinal}
    seed = record.seed if record.ordinal == 0 or not chained else None
    obs, _ = env.reset(seed=seed, options=options)
    yield ReplayStep(env, 0, obs, None, 0.0, 0.0, False, False)
    score, scalar = 0.0, record.actions.ndim == 1 and record.actions.dtype.kind in "iu"
    for step, action in enumerate(record.actions, start=1):
        if not env.action_space.contains(action := np.int64(action) if scalar else action):
            raise ReplayError(f"the action of step {step} is invalid in {record.env_id}: the action replay was changed")
        obs, reward, terminated, truncated, _ = env.step(action)
        score += float(reward)
        _check_step(record, env.observation_space, step, obs, score, bool(terminated), bool(truncated))
        yield ReplayStep(env, step, obs, action, float(reward), score, bool(terminated), bool(truncated))


def _check_step(
    record: EpisodeRecord, space: gym.Space, step: int, obs: Any, score: float, terminated: bool, truncated: bool
) -> None:
    """Raise ReplayError unless this step matches the record."""
    why = "the action replay was changed, or recorded with another version of the game"
    over = terminated or truncated
    if over != (step == record.length):
        when = f"ends at step {step}" if over else f"goes on after step {step}"
        raise ReplayError(f"the game {when}, the record ends at step {record.length}: {why}")
    if not over and step % HASH_EVERY_STEPS == 0:
        actual = frame_hash(obs, space, record.protocol["frame_stack"] > 1)
        if actual != record.frame_hashes[step // HASH_EVERY_STEPS - 1]:
            raise ReplayError(f"frame {step} differs: {why}")
    if over and score != record.episode_return:
        raise ReplayError(f"the score is {score:g}, the recorded score {record.episode_return:g}: {why}")
    if over and (terminated, truncated) != (record.terminated, record.truncated):
        end, recorded = ("terminated" if flag else "truncated" for flag in (terminated, record.terminated))
        raise ReplayError(f"the game is {end}, the recorded game was {recorded}: {why}")
