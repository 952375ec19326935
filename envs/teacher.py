"""Reward from a teacher: BabyAI's bot judges each step, and a comment that expresses the judgement becomes reward.

Sumers et al. 2021, "Learning rewards from linguistic feedback".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from envs.missions import is_babyai
from envs.wrappers import AgentSideWrapper

Comment = Callable[[np.random.Generator, str, str], str]
"""(generator, good|bad|neutral, the object that the mission names) -> a comment."""
NEUTRAL_SHARE = 0.25
"""Share of the steps on which the teacher's comment is not about the step."""


def judge_action(rng: np.random.Generator, action: int, planned: int | None) -> str:
    """Return good if `action` is the bot's planned one, else bad; neutral at random or if the bot has no plan."""
    if planned is None or rng.random() < NEUTRAL_SHARE:
        return "neutral"
    return "good" if action == planned else "bad"


def mission_object(game: Any) -> str:
    """Return the last object that a game's mission names, such as "red ball"."""
    return str(game.mission.split(" the ")[-1].split(" a ")[-1])


class TeacherReward(AgentSideWrapper):
    """Add `scale * read(comment)` to each reward, where `comment` is the teacher's comment on the step.

    The teacher is BabyAI's bot: an action that it would have taken is good, any other is bad. Comments are in
    `info["feedback"]`, "" for the steps that start games. Recorded games keep the game's own rewards. The seeds of
    `reset` determine the comments. Raises ValueError for games other than BabyAI's.
    """

    def __init__(self, envs: gym.vector.VectorEnv, comment: Comment, read: Callable[[str], float], scale: float):
        super().__init__(envs)
        self.games: list[Any] = [env.unwrapped for env in getattr(envs.unwrapped, "envs", ())]
        if not self.games or not all(is_babyai(game) for game in self.games):
            raise ValueError("a teacher exists only for BabyAI's games")
        self.comment, self.read, self.scale = comment, read, scale

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments; without seeds the comments depend on the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(seed)
        self.dead = np.zeros(self.num_envs, bool)
        self.bots: list[Any] = [None] * self.num_envs
        self.last_actions: list[int | None] = [None] * self.num_envs
        for env in range(self.num_envs):
            self._new_bot(env)
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments, and add the teacher's reward to the rewards [N]."""
        planned = [None if self.dead[env] else self._plan(env) for env in range(self.num_envs)]
        obs, reward, terminated, truncated, info = self.env.step(actions)
        comments = np.full(self.num_envs, "", object)
        reward = np.array(reward)
        for env, (plan, action) in enumerate(zip(planned, actions, strict=True)):
            if self.dead[env]:
                self._new_bot(env)
                continue
            self.last_actions[env] = int(action)
            judgement = judge_action(self.generator, int(action), plan)
            comments[env] = self.comment(self.generator, judgement, mission_object(self.games[env]))
            reward[env] += self.scale * self.read(comments[env])
        self.dead = terminated | truncated
        return obs, reward, terminated, truncated, {**info, "feedback": comments}

    def _new_bot(self, env: int) -> None:
        """Start a bot from the game's current state."""
        from minigrid.utils.baby_ai_bot import BabyAIBot

        self.bots[env], self.last_actions[env] = BabyAIBot(self.games[env]), None

    def _plan(self, env: int) -> int | None:
        """Return the bot's next action; None, and a new bot, if the agent led it into a state that it cannot handle."""
        from minigrid.utils.baby_ai_bot import DisappearedBoxError

        try:
            return int(self.bots[env].replan(self.last_actions[env]))
        except (DisappearedBoxError, AssertionError, AttributeError, IndexError, TypeError, ValueError):
            self._new_bot(env)
            return None
