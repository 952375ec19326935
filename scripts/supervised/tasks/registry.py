"""Supervised tasks by name, imported when they are used."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from agents.errors import ConfigError

if TYPE_CHECKING:
    from scripts.supervised.tasks.base import SupervisedTask

TASKS = {
    "digits": "digits.Digits",
    "atari-ram": "atari.AtariRAM",
    "atari-motion": "atari.AtariMotion",
    "inverse-dynamics": "games.InverseDynamics",
    "game-recognition": "games.GameRecognition",
    "cloning": "games.Cloning",
    "game-sounds": "sounds.GameSounds",
    "mission-slots": "mission_text.MissionSlots",
    "feedback": "feedback.Feedback",
    "speech-commands": "speech.SpeechCommands",
    "speech-to-text": "speech.SpeechToText",
    "speech-slots": "speech.SpeechSlots",
    "images": "disk.ImageClasses",
    "texts": "disk.TextClasses",
    "rows": "disk.RowClasses",
    "translate-zh-en": "mission_text.TranslateZhEn",
    "translate-fr-en": "mission_text.TranslateFrEn",
    "translate-en-zh": "mission_text.TranslateEnZh",
    "translate-en-fr": "mission_text.TranslateEnFr",
}
"""Name -> module and class in this folder."""


def task_class(name: str) -> type[SupervisedTask]:
    """Import a task; raise ConfigError with the closest name if there is none."""
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(TASKS)}"
        raise ConfigError(f"there is no task '{name}'; {hint}")
    module, _, kind = TASKS[name].partition(".")
    return getattr(importlib.import_module(f"scripts.supervised.tasks.{module}"), kind)


def make_task(name: str) -> SupervisedTask:
    """Return a new task."""
    return task_class(name)()
