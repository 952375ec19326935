"""All tasks by name."""

from __future__ import annotations

import difflib

from agents.errors import ConfigError
from scripts.supervised.tasks.atari import AtariMotion, AtariRAM
from scripts.supervised.tasks.base import Task
from scripts.supervised.tasks.digits import Digits
from scripts.supervised.tasks.disk import ImageClasses, RowClasses, TextClasses
from scripts.supervised.tasks.feedback import Feedback
from scripts.supervised.tasks.games import Cloning, GameRecognition, InverseDynamics
from scripts.supervised.tasks.mission_text import MissionSlots, translations
from scripts.supervised.tasks.sounds import GameSounds
from scripts.supervised.tasks.speech import SpeechCommands, SpeechSlots, SpeechToText

TASKS: dict[str, type[Task]] = {
    **{
        task.name: task
        for task in (
            Digits,
            AtariRAM,
            AtariMotion,
            InverseDynamics,
            GameRecognition,
            Cloning,
            GameSounds,
            MissionSlots,
            Feedback,
            SpeechCommands,
            SpeechToText,
            SpeechSlots,
            ImageClasses,
            TextClasses,
            RowClasses,
        )
    },
    **translations(),
}  # fmt: skip


def task(name: str) -> Task:
    """Return a new task, or raise ConfigError with the closest name."""
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, 1)
        raise ConfigError(f"there is no task '{name}'; " + (f"did you mean {close[0]}?" if close else ", ".join(TASKS)))
    return TASKS[name]()
