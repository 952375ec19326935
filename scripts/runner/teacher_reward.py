"""Reward from a teacher's comments, classified by a network that was trained on `feedback`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.errors import ConfigError
from agents.settings import EnvironmentSettings
from envs.teacher import TeacherReward
from networks.encoders import store
from networks.supervised.feedback import CLASSES, REWARDS, draw_line
from networks.supervised.models import Classifier, load_heads


def add_teacher_reward(envs: Any, settings: EnvironmentSettings) -> Any:
    """Add the teacher that `settings` names; its comments come from templates that no network was trained on."""
    if not settings.teacher:
        return envs
    stored = store.load(Path(settings.teacher))
    if stored.config["task"] != "feedback":
        raise ConfigError(f"--teacher {settings.teacher} was trained on {stored.config['task']}, not on feedback")
    model = load_heads(Classifier(stored.encoder, {"sentiment": len(CLASSES)}), stored.heads)
    vocabulary, (length,) = stored.vocabularies["input"], stored.encoder.spec.input["shape"]
    class_rewards = torch.tensor([REWARDS[name] for name in CLASSES])

    @lru_cache(maxsize=100_000)
    def reward_of(comment: str) -> float:
        with torch.inference_mode():
            tokens = torch.from_numpy(vocabulary.array([comment], int(length)))
            probabilities = model.predict(tokens)["sentiment"][0]
        return float(probabilities @ class_rewards)

    def comment(rng: np.random.Generator, label: str, thing: str) -> str:
        return draw_line(rng, label, thing, 2)[0]

    try:
        return TeacherReward(envs, comment, reward_of, settings.teacher_scale)
    except ValueError as error:
        raise ConfigError(f"--teacher: {error}, not {settings.env}") from error
