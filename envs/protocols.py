"""Evaluation protocols: every knob that changes what a score means, under a name and a fingerprint.

Three incompatible Atari protocols are in use; a score without its protocol says nothing. `classic` is that of
Mnih et al. 2015 and most later papers, `machado` that of Machado et al. 2018 ("Revisiting the ALE", section 5).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """The meaning of a score: what the game does to the agent, never what the learner does with the reward."""

    name: str
    repeat_action_probability: float = 0.0
    """Sticky actions: chance, at each emulator frame, that the previous action is executed instead."""
    noop_max: int = 0
    """A game starts with up to this many emulator frames of doing nothing, drawn at random."""
    fire_reset: bool = False
    """Press FIRE once at the start of a game, where the game has that button."""
    full_action_space: bool = False
    """All 18 joystick actions instead of those that the game listens to."""
    life_information: bool = False
    """The learner may use the loss of a life as the end of an episode. Scores are of full games either way."""
    frame_skip: int = 1
    """Emulator frames per agent step; the action is held and the reward summed."""
    max_frames: int = 0
    """Emulator frames after which a game is truncated; 0 leaves it to the environment."""
    image_size: int = 0
    """Height and width, in pixels, of the observed frame; 0 leaves the observation as the environment gives it."""
    frame_stack: int = 1
    """Newest frames in one observation, black before the first frame of a game."""
    grayscale: bool = False
    """Observe luminance instead of colour."""


CLASSIC = Protocol(
    "classic",
    noop_max=30,
    fire_reset=True,
    life_information=True,
    frame_skip=4,
    max_frames=108_000,
    image_size=84,
    frame_stack=4,
    grayscale=True,
)
MACHADO = replace(
    CLASSIC, name="machado", repeat_action_probability=0.25, noop_max=0, fire_reset=False,
    full_action_space=True, life_information=False,
)  # fmt: skip
NATIVE = Protocol("native")

PROTOCOLS = {protocol.name: protocol for protocol in (CLASSIC, MACHADO, NATIVE)}


@dataclass(frozen=True)
class GameSpec:
    """Everything that a score depends on: the environment, its arguments and the protocol."""

    env_id: str
    env_kwargs: dict[str, Any]
    protocol: Protocol
    family: str
    """atari, box2d, classic, minatar, minigrid or toy; it follows from `env_id`."""

    @property
    def frame_stack(self) -> int:
        """Frames stacked in one observation."""
        return self.protocol.frame_stack

    @property
    def fingerprint(self) -> str:
        """12 hex digits, equal only for games whose scores mean the same."""
        return fingerprint(self.env_id, self.env_kwargs, asdict(self.protocol))

    def to_json(self) -> dict[str, Any]:
        """Return the fields, frame stack and fingerprint as config.json keeps them under `card`."""
        return {**asdict(self), "frame_stack": self.frame_stack, "fingerprint": self.fingerprint}


def fingerprint(env_id: str, env_kwargs: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Return 12 hex digits of the SHA-256 of the three; the order of keys does not matter."""
    values = {"env_id": env_id, "env_kwargs": env_kwargs, "protocol": protocol}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
