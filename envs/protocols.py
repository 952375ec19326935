"""Evaluation protocols: all settings that change the meaning of a score, with a name and a fingerprint.

Incompatible Atari protocols are in use, so a score needs its protocol. `classic` follows Mnih et al. 2015 and most
later papers, `machado` follows Machado et al. 2018 ("Revisiting the ALE", section 5). Other games are `native`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """Settings of the game that scores depend on. Settings of the learner, such as reward clipping, are not part."""

    name: str
    repeat_action_probability: float = 0.0
    """Sticky actions: probability, at each emulator frame, that the previous action is repeated instead."""
    noop_max: int = 0
    """Largest number of no-op emulator frames at the start of a game; the number is drawn uniformly."""
    fire_reset: bool = False
    """Press FIRE once at the start of a game, if the game uses that button."""
    full_action_space: bool = False
    """All 18 joystick actions instead of only those with an effect in the game."""
    life_information: bool = False
    """The learner may treat the loss of a life as the end of an episode. Scores are always of full games."""
    frame_skip: int = 1
    """Emulator frames per agent step; the action is repeated and rewards are summed."""
    max_frames: int = 0
    """Emulator frames after which a game is truncated; 0 for the environment's own limit."""
    image_size: int = 0
    """Height and width of the observed frame in pixels; 0 for the environment's own observation."""
    frame_stack: int = 1
    """Frames stacked in one observation; frames before the start of a game are black."""
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
        """12 hex digits that are equal for two games only if their scores are comparable."""
        return fingerprint(self.env_id, self.env_kwargs, asdict(self.protocol))

    def to_json(self) -> dict[str, Any]:
        """Return the fields, frame stack and fingerprint, as saved in config.json under `card`."""
        return {**asdict(self), "frame_stack": self.frame_stack, "fingerprint": self.fingerprint}


def fingerprint(env_id: str, env_kwargs: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Return the first 12 hex digits of the SHA-256 of the arguments as JSON; the order of keys does not matter."""
    values = {"env_id": env_id, "env_kwargs": env_kwargs, "protocol": protocol}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
