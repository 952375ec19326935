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


def fingerprint(card: dict[str, Any]) -> str:
    """Return 12 hex digits that are equal for two environments only if their scores mean the same.

    `card` is a JSON-able description (environment id, constructor arguments, protocol); its order does not matter.
    """
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()[:12]


def describe(env_id: str, protocol: Protocol, env_kwargs: dict[str, Any], family: str) -> dict[str, Any]:
    """Return the card of an environment: everything a score on it depends on, and the fingerprint over it."""
    card = {"env_id": env_id, "env_kwargs": env_kwargs, "protocol": asdict(protocol)}
    return {**card, "family": family, "frame_stack": protocol.frame_stack, "fingerprint": fingerprint(card)}
