"""A teacher beside BabyAI's games: the bot looks at each step, its view is put into words, and these become reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from envs.missions import is_babyai
from envs.wrappers import AgentSideWrapper

Say = Callable[[np.random.Generator, str, str], str]
"""(randomness, good|bad|neutral, the thing that is looked for) -> a line."""
SMALL_TALK = 0.25
"""Share of the steps of which the teacher says nothing that is about them."""


def judged(rng: np.random.Generator, action: int, planned: int | None) -> str:
    """Return what a teacher makes of a step: good or bad, as the bot had it planned or not, or neutral."""
    if planned is None or rng.random() < SMALL_TALK:
        return "neutral"
    return "good" if action == planned else "bad"


def looked_for(game: Any) -> str:
    """Return the last thing that a game's mission names."""
    return str(game.mission.split(" the ")[-1].split(" a ")[-1])


class TeacherReward(AgentSideWrapper):
    """Add `scale * read(line)` to each reward, where `line` is what a teacher says of the step (Sumers et al. 2021).

    The teacher is BabyAI's bot: a step that it would have taken is good, any other bad. What it says is in
    `info["feedback"]`, "" for the steps that begin games. Recorded games keep the game's own rewards. What is said
    follows from the seeds of `reset`.
    """

    def __init__(self, envs: gym.vector.VectorEnv, say: Say, read: Callable[[str], float], scale: float):
        super().__init__(envs)
        self.games: list[Any] = [env.unwrapped for env in getattr(envs.unwrapped, "envs", ())]
        if not self.games or not all(is_babyai(game) for game in self.games):
            raise ValueError("a teacher watches BabyAI's games only")
        self.say, self.read, self.scale = say, read, scale

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew; without seeds what is said is drawn from the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(seed)
        self.dead = np.zeros(self.num_envs, bool)
        self.bots: list[Any] = [None] * self.num_envs
        self.last: list[int | None] = [None] * self.num_envs
        for env in range(self.num_envs):
            self._watch(env)
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        planned = [None if self.dead[env] else self._plan(env) for env in range(self.num_envs)]
        obs, reward, terminated, truncated, info = self.env.step(actions)
        lines = np.full(self.num_envs, "", object)
        reward = np.array(reward)
        for env, (plan, action) in enumerate(zip(planned, actions, strict=True)):
            if self.dead[env]:
                self._watch(env)
                continue
            self.last[env] = int(action)
            label = judged(self.generator, int(action), plan)
            lines[env] = self.say(self.generator, label, looked_for(self.games[env]))
            reward[env] += self.scale * self.read(lines[env])
        self.dead = terminated | truncated
        return obs, reward, terminated, truncated, {**info, "feedback": lines}

    def _watch(self, env: int) -> None:
        """Have a new bot look at a game as it is now."""
        from minigrid.utils.baby_ai_bot import BabyAIBot

        self.bots[env], self.last[env] = BabyAIBot(self.games[env]), None

    def _plan(self, env: int) -> int | None:
        """Return what the bot would do now; None where an agent has brought it into a state that it does not know."""
        from minigrid.utils.baby_ai_bot import DisappearedBoxError

        try:
            return int(self.bots[env].replan(self.last[env]))
        except (DisappearedBoxError, AssertionError, AttributeError, IndexError, TypeError, ValueError):
            self._watch(env)
            return None
