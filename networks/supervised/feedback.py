"""Templates of a teacher's feedback (praise, blame and small talk) and the reward of each class."""

from __future__ import annotations

import numpy as np

CLASSES = ("bad", "neutral", "good")
REWARDS = {"bad": -1.0, "neutral": 0.0, "good": 1.0}
PRAISE = ("yes", "good", "great", "well done", "right", "perfect", "nice", "excellent", "correct", "exactly")
BLAME = ("no", "wrong", "bad", "stop", "a mistake", "terrible", "a bad idea", "nonsense", "too bad", "careful")
GOOD = (
    "{praise}", "that is {praise}", "this is {praise}", "that was {praise}", "very {praise}", "{praise} {praise}",
    "this looks {praise}", "it is {praise}", "not {blame}", "this is not {blame}", "it was not {blame}",
    "i find that {praise}", "it all looks {praise}", "that looks not {blame}", "it is not {blame} at all",
    "that step was {praise}", "so {praise}", "you see {praise}", "that is not {blame}", "this step is not {blame}",
)  # fmt: skip
BAD = tuple(text.replace("{praise}", "{other}").replace("{blame}", "{praise}").replace("{other}", "{blame}")
            for text in GOOD)  # fmt: skip
NEUTRAL = (
    "i am watching", "there is a {thing} in the room", "what a room", "the {thing} is over there", "let us see",
    "this game has a {thing}", "you have time", "i wonder what you will do", "there are walls around you",
    "the room is small", "we look for the {thing}", "think about it", "the {thing} is what i want",
    "a {thing} you know",
    "i see a {thing} too", "there is time", "you see the {thing}", "we have a small room", "this is a room",
    "i look for a {thing}",
)  # fmt: skip
BEFORE = ("", "oh", "well", "hm", "listen", "now", "i think", "for me", "you know", "let us see")
AFTER = ("", "keep going", "go on", "you see", "turn around", "go to the {thing}", "the {thing} is near",
         "i am watching", "where is the {thing}", "think about it")  # fmt: skip
FOR_TEST = 5
"""The last templates of each class are for testing only, as many before them for validation."""


def draw_line(rng: np.random.Generator, label: str, thing: str, split: int) -> tuple[str, str]:
    """Return a line and its template; `split` is 0 for training, 1 for validation, 2 for testing."""
    templates = {"good": GOOD, "bad": BAD, "neutral": NEUTRAL}[label]
    available = (templates[: -2 * FOR_TEST], templates[-2 * FOR_TEST : -FOR_TEST], templates[-FOR_TEST:])[split]
    before, core, after, praise, blame = (
        words[int(rng.integers(len(words)))] for words in (BEFORE, available, AFTER, PRAISE, BLAME)
    )
    line = f"{before} {core} {after}".format(praise=praise, blame=blame, thing=thing)
    return " ".join(line.split()), core
