"""A teacher beside BabyAI's games: the bot looks at each step, its view is put into words, and these become reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from envs.wrappers import AroundRecorder

Say = Callable[[np.random.Generator, str, str], str]
"""(randomness, good|bad|neutral, the thing that is looked for) -> a line."""
SMALL_TALK = 0.25
"""Share of the steps of which the teacher says nothing that is about them."""


class Taught(AroundRecorder):
    """Add `scale * read(line)` to each reward, where `line` is what a teacher says of the step (Sumers et al. 2021).

    The teacher is BabyAI's bot: a step that it would have taken is good, any other bad. What it says is in
    `info["feedback"]`, "" for the steps that begin games. Recorded games keep the game's own rewards. What is said
    follows from the seeds of `reset`.
    """

    def __init__(self, envs: gym.vector.VectorEnv, say: Say, read: Callable[[str], float], scale: float):
        super().__init__(envs)
        from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel

        self.games: list[Any] = [env.unwrapped for env in getattr(envs.unwrapped, "envs", ())]
        if not self.games or not all(isinstance(game, RoomGridLevel) for game in self.games):
            raise ValueError("a teacher watches BabyAI's games only")
        self.say, self.read, self.scale = say, read, scale

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew; without seeds what is said is drawn from the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(seed)
        self.dead = np.zeros(self.num_envs, bool)
        self.bots: list[Any] = [self._bot(game) for game in self.games]
        self.last: list[int | None] = [None] * self.num_envs
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        planned = [None if self.dead[env] else self._plan(env) for env in range(self.num_envs)]
        things = [game.mission.split(" the ")[-1].split(" a ")[-1] for game in self.games]
        obs, reward, terminated, truncated, info = self.env.step(actions)
        lines = np.full(self.num_envs, "", object)
        reward = np.array(reward)
        for env, (plan, thing, action) in enumerate(zip(planned, things, actions, strict=True)):
            if self.dead[env]:
                self.bots[env], self.last[env] = self._bot(self.games[env]), None
                continue
            self.last[env] = int(action)
            silent = plan is None or self.generator.random() < SMALL_TALK
            label = "neutral" if silent else "good" if int(action) == plan else "bad"
            lines[env] = self.say(self.generator, label, thing)
            reward[env] += self.scale * self.read(lines[env])
        self.dead = terminated | truncated
        return obs, reward, terminated, truncated, {**info, "feedback": lines}

    @staticmethod
    def _bot(game: Any) -> Any:
        from minigrid.utils.baby_ai_bot import BabyAIBot

        return BabyAIBot(game)

    def _plan(self, env: int) -> int | None:
        """Return what the bot would do now; None where an agent has brought it into a state that it does not know."""
        from minigrid.utils.baby_ai_bot import DisappearedBoxError

        try:
            return int(self.bots[env].replan(self.last[env]))
        except (DisappearedBoxError, AssertionError, AttributeError, IndexError, TypeError, ValueError):
            self.bots[env], self.last[env] = self._bot(self.games[env]), None
            return None
