"""The sentiment of what a teacher says to an agent: was the last step good, bad, or is it not about the step at all?

As in Sumers et al. 2021 ("Learning rewards from linguistic feedback"), what is said is turned into a reward. The lines
are written from templates while BabyAI's bot looks at each step that somebody takes: they are synthetic, and say little
about how people talk. For people's texts give `pretrain.py texts --data`.
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
from networks.supervised.data import Data, DataError, Splits
from networks.supervised.feedback import CLASSES, said
from networks.supervised.fit import FitConfig
from scripts.supervised.tasks.base import Collected, DataOptions, Goal
from scripts.supervised.tasks.texts import TextTask


class Feedback(TextTask):
    """Good, bad or neither?"""

    name = "feedback"
    summary = "tell praise from blame and from small talk in a teacher's lines (written from templates)"
    longest = 24
    arch = "bigru-attention"
    examples = 6_000
    config = FitConfig(epochs=6, batch_size=64, learning_rate=2e-3)
    augment = ("words",)
    goals = (Goal("accuracy", 0.85, 60.0),)

    def collect(self, options: DataOptions) -> Collected:
        """Let somebody play who errs in every second step, and have the bot's view of it put into words."""
        if options.path is not None:
            raise DataError("feedback takes no --data: it writes its lines; `texts` reads tables of texts and labels")
        rng = np.random.default_rng(options.seed)
        env = make_env("BabyAI-GoToLocal-v0", render_mode=None)
        verdicts = [verdict for _, verdict in zip(range(options.examples), watched(env, rng), strict=False)]
        shares = np.cumsum([0.7, 0.15, 0.15]) * len(verdicts)
        parts = []
        for number, (first, last) in enumerate(zip([0, *shares[:2]], shares, strict=True)):
            lines = [said(rng, label, thing, number) for label, thing in verdicts[int(first) : int(last)]]
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
        """The three."""
        return {"sentiment": CLASSES}


def watched(env: gym.Env, rng: np.random.Generator) -> Any:
    """Yield for each step of somebody who errs in every second one whether the bot would have done it, and what for."""
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
