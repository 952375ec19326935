"""Reward from what a teacher says, as a network that was trained on `feedback` understands it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from agents.config import TrainConfig
from agents.errors import ConfigError
from envs.teacher import TeacherReward
from networks.encoders import store
from networks.supervised.feedback import CLASSES, REWARDS, said
from networks.supervised.models import Classifier, load_heads


def add_teacher_reward(envs: Any, config: TrainConfig) -> Any:
    """Put the teacher that a config names beside the games; no network learned from the templates of its lines."""
    if not config.teacher:
        return envs
    stored = store.load(Path(config.teacher))
    if stored.config["task"] != "feedback":
        raise ConfigError(f"--teacher {config.teacher} was trained on {stored.config['task']}, not on feedback")
    model = load_heads(Classifier(stored.encoder, {"sentiment": len(CLASSES)}), stored.heads)
    words, (length,) = stored.vocabularies["input"], stored.encoder.spec.input["shape"]
    worth = torch.tensor([REWARDS[name] for name in CLASSES])

    @lru_cache(maxsize=100_000)
    def read(line: str) -> float:
        with torch.inference_mode():
            chances = model.predict(torch.from_numpy(words.array([line], int(length))))["sentiment"][0]
        return float(chances @ worth)

    try:
        return TeacherReward(envs, lambda rng, label, thing: said(rng, label, thing, 2)[0], read, config.teacher_scale)
    except ValueError as error:
        raise ConfigError(f"--teacher: {error}, not {config.env}") from error
