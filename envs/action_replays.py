"""Action replays: note the episodes that an agent plays in any vector environment, and play one of them again.

`RecordEpisodes` sits on the path of training and costs next to nothing there. `resimulate` plays a record again in a
single environment and compares what it sees with what was noted: the frame at every 32nd step, the end, the score.
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
    "Moment",
    "RecordEpisodes",
    "ReplayError",
    "load_replays",
    "previous_episodes",
    "resimulate",
    "verify",
]

MakeEnv = Callable[..., gym.Env]
"""(env_id, protocol=Protocol, env_kwargs=dict, render_mode=str | None) -> one environment."""


class RecordEpisodes(gym.vector.VectorWrapper):
    """Put `info["episodes"]`, a list of EpisodeRecord, into the info of every step at which episodes end.

    Works on any vector environment with NEXT_STEP autoreset; the row after an end, whose action is ignored, belongs to
    no episode. An episode that a `reset` cuts short is not recorded. `game` is the `GameSpec` of all of them.
    """

    def __init__(self, envs: gym.vector.VectorEnv, game: GameSpec):
        super().__init__(envs)
        assert envs.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP, "NEXT_STEP autoreset only"
        self.game = game
        facts = game.to_json()
        self._played = {key: facts[key] for key in ("env_id", "env_kwargs", "protocol", "family", "fingerprint")}
        self._stacked = game.frame_stack > 1
        self._lives_shown = game.protocol.life_information
        self._space = envs.single_observation_space
        space = envs.single_action_space
        small = isinstance(space, gym.spaces.Discrete) and space.start >= 0 and space.start + space.n <= 256
        dtype = np.uint8 if small else space.dtype
        self._actions = np.zeros((1024, self.num_envs, *(space.shape or ())), dtype)
        self._generator = np.random.default_rng()

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew; `seed` k gives environment i the seed k + i, None draws them."""
        if options:
            raise ValueError("reset takes no options here: episodes that depend on them could not be played again")
        if seed is None:
            self._seeds = self._generator.integers(2**31 - 1, size=self.num_envs)
        else:
            self._seeds = np.asarray(seed) if np.ndim(seed) else seed + np.arange(self.num_envs)
        is_ale = hasattr(self.env.unwrapped, "ale")  # which takes arrays only, and Gymnasium's take lists only
        seeds: Any = self._seeds if is_ale else self._seeds.tolist()
        obs, info = self.env.reset(seed=seeds)
        self._hide(info)
        self._time = 0
        self._dead: list[int] = []
        self._returns = np.zeros(self.num_envs)
        self._ordinals = [0] * self.num_envs
        self._starts = [0] * self.num_envs  # rows of self._actions at which the episodes began
        self._hashes: list[list[int]] = [[] for _ in range(self.num_envs)]
        self._due: list[set[int]] = [set() for _ in range(HASH_EVERY_STEPS)]
        self._frames = [(0, 0)] * self.num_envs
        for env in range(self.num_envs):
            self._begin(env, info)
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments, and note what they did."""
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
        """Begin the next episodes of the environments in `ended`, bool [num_envs], whose last step ended one.

        For a learner that knows no NEXT_STEP autoreset: the step after an end is an ordinary one then.
        """
        obs, info = self.env.reset(options={"reset_mask": ended})
        self._hide(info)
        for env in np.flatnonzero(ended).tolist():
            self._begin(env, info)
        self._dead = []
        return obs, info

    def _hide(self, info: dict[str, Any]) -> None:
        """Keep from the learner what the protocol does not let it know."""
        if not self._lives_shown:
            info.pop("lives", None)

    def _begin(self, env: int, info: dict[str, Any]) -> None:
        """Note that `info` is that of the first observation of an episode."""
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
            **self._played,
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
        """Forget the rows before the oldest unfinished episode, and double the array if they are few."""
        oldest = min(self._starts) // HASH_EVERY_STEPS * HASH_EVERY_STEPS  # keeps the times modulo 32, hence _due
        kept = self._actions[oldest:]
        if oldest < len(self._actions) // 2:
            self._actions = np.concatenate([kept, np.zeros_like(self._actions)])
        else:
            self._actions[: len(kept)] = kept.copy()
        self._time -= oldest
        self._starts = [start - oldest for start in self._starts]


def _row(obs: Any, env: int) -> Any:
    return {key: value[env] for key, value in obs.items()} if isinstance(obs, dict) else obs[env]


class Moment(NamedTuple):
    """One step of an episode that is played again; step 0 is the start, with no action."""

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
) -> Iterator[Moment]:
    """Play the episode again, moment by moment; raise ReplayError as soon as it is not the recorded one.

    `previous` (see `previous_episodes`) are played before it, unseen, where the start depends on them: with any
    Gymnasium environment after its first episode, and with the few Atari games that keep something in memory from one
    game to the next. Those are found by trying, so that nothing is handed out that then proves wrong.
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
            f"of which {len(previous)} were found; use the run's whole replays file"
        )
    yield from _play(record, () if alone else previous, make_env, render_mode)


def verify(record: EpisodeRecord, previous: Sequence[EpisodeRecord], make_env: MakeEnv) -> None:
    """Raise ReplayError unless playing the episode again gives the recorded frames, end and score."""
    for _ in resimulate(record, previous, make_env, render_mode=None):
        pass


def _complete(record: EpisodeRecord, previous: Sequence[EpisodeRecord]) -> bool:
    return [item.ordinal for item in previous] == list(range(record.ordinal)) and all(
        (item.seed, item.fingerprint) == (record.seed, record.fingerprint) for item in previous
    )


def _play(
    record: EpisodeRecord, previous: Sequence[EpisodeRecord], make_env: MakeEnv, render_mode: str | None
) -> Iterator[Moment]:
    """Play `previous`, then `record` with everything checked; without `previous`, an Atari game starts by itself."""
    try:
        protocol = Protocol(**record.protocol)
        env = make_env(record.env_id, protocol=protocol, env_kwargs=record.env_kwargs, render_mode=render_mode)
    except (ValueError, TypeError, gym.error.Error) as error:
        raise ReplayError(f"{record.env_id} cannot be made here: {error}") from error
    try:
        for episode in previous:
            for _ in _moments(env, episode, chained=True):
                pass
        yield from _moments(env, record, chained=bool(previous))
    finally:
        env.close()


def _moments(env: gym.Env, record: EpisodeRecord, chained: bool) -> Iterator[Moment]:
    options: dict[str, Any] | None = None
    if record.family == "atari":
        options = {"noop_frames": record.noop_frames}
        if not chained:
            options |= {"start_frame": record.start_frame, "ordinal": record.ordinal}
    seed = record.seed if record.ordinal == 0 or not chained else None
    obs, _ = env.reset(seed=seed, options=options)
    yield Moment(env, 0, obs, None, 0.0, 0.0, False, False)
    score, scalar = 0.0, record.actions.ndim == 1 and record.actions.dtype.kind in "iu"
    for step, action in enumerate(record.actions, start=1):
        if not env.action_space.contains(action := np.int64(action) if scalar else action):
            raise ReplayError(f"the action of step {step} is none of {record.env_id}'s: the replay was tampered with")
        obs, reward, terminated, truncated, _ = env.step(action)
        score += float(reward)
        _compare(record, env.observation_space, step, obs, score, bool(terminated), bool(truncated))
        yield Moment(env, step, obs, action, float(reward), score, bool(terminated), bool(truncated))


def _compare(
    record: EpisodeRecord, space: gym.Space, step: int, obs: Any, score: float, terminated: bool, truncated: bool
) -> None:
    """Raise ReplayError unless this step is what the record says."""
    why = "the replay was tampered with, or made with another version of the game"
    over = terminated or truncated
    if over != (step == record.length):
        when = f"ends at step {step}" if over else f"goes on after step {step}"
        raise ReplayError(f"the game {when}, the replay after {record.length}: {why}")
    if not over and step % HASH_EVERY_STEPS == 0:
        seen = frame_hash(obs, space, record.protocol["frame_stack"] > 1)
        recorded = record.frame_hashes[step // HASH_EVERY_STEPS - 1]
        if seen != recorded:
            raise ReplayError(f"frame {step} differs: {why}")
    if over and score != record.episode_return:
        raise ReplayError(f"the score is {score:g}, the replay says {record.episode_return:g}: {why}")
    if over and (terminated, truncated) != (record.terminated, record.truncated):
        raise ReplayError(f"the game {'ends' if terminated else 'is cut off'}, the replay says otherwise: {why}")
