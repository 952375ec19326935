"""Sentiment of a teacher's feedback: praise, blame or neither.

Agents turn the sentiment into a reward (Sumers et al. 2021, "Learning rewards from linguistic feedback"). The lines are
synthetic: templates filled from the judgement of BabyAI's bot on a random player's steps. For human texts use
`pretrain.py texts --data`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.make import make_env
from envs.teacher import judge_action, mission_object
from networks.encoders.vocabulary import Vocabulary
from networks.supervised.data import Data, Splits
from networks.supervised.feedback import CLASSES, draw_line
from networks.supervised.fit import FitConfig
from scripts.supervised.tasks.base import Collected, DataOptions, Goal
from scripts.supervised.tasks.texts import TextClassificationTask


class Feedback(TextClassificationTask):
    """Classify feedback as good, bad or neutral."""

    name = "feedback"
    summary = "classify a teacher's feedback as praise, blame or small talk (synthetic, from templates)"
    longest = 24
    arch = "bigru-attention"
    examples = 6_000
    config = FitConfig(epochs=6, batch_size=64, learning_rate=2e-3)
    augment = ("words",)
    goals = (Goal("accuracy", 0.85, 60.0),)

    def collect(self, options: DataOptions) -> Collected:
        """Phrase the bot's judgement of a player who acts at random in every second step."""
        rng = np.random.default_rng(options.seed)
        env = make_env("BabyAI-GoToLocal-v0", render_mode=None)
        verdicts = [verdict for _, verdict in zip(range(options.examples), judged_steps(env, rng), strict=False)]
        ends = np.cumsum([0.7, 0.15, 0.15]) * len(verdicts)
        parts = []
        for number, (first, last) in enumerate(zip([0, *ends[:2]], ends, strict=True)):
            lines = [draw_line(rng, label, thing, number) for label, thing in verdicts[int(first) : int(last)]]
            target = np.array([CLASSES.index(label) for label, _ in verdicts[int(first) : int(last)]])
            parts.append((lines, {"sentiment": target}))
        self.words = Vocabulary.of(text for lines, _ in parts[:1] for text, _ in lines)
        datas = [
            Data(self.ids([text for text, _ in lines]), y, np.array([name for _, name in lines])) for lines, y in parts
        ]
        facts = {"source": "templates over the judgement of BabyAI's bot", "synthetic": True,
                 "env_frames": options.examples}  # fmt: skip
        return Collected(Splits(*datas), facts)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Bad, neutral, good."""
        return {"sentiment": CLASSES}


def judged_steps(env: gym.Env, rng: np.random.Generator) -> Any:
    """Yield the bot's judgement (label, object) of each step of a player who acts at random in every second one."""
    from minigrid.utils.baby_ai_bot import BabyAIBot

    game: Any = env.unwrapped
    assert isinstance(env.action_space, spaces.Discrete)
    while True:
        env.reset(seed=int(rng.integers(2**31)))
        bot, over, action = BabyAIBot(game), False, None
        thing = mission_object(game)
        while not over:
            planned = int(bot.replan(action))
            action = planned if rng.random() < 0.5 else int(rng.integers(3))
            _, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            yield judge_action(rng, action, planned), thing
