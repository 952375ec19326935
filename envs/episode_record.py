"""The record of one episode: its seed and its actions, a few kB, from which it can be played again bit for bit.

`EpisodeRecord.to_json` is one line of a run's `replays/train.jsonl` or `eval.jsonl`. The digest in each line finds
accidents; an edited replay whose digest was mended as well is found by playing it (replays.py).
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from envs.errors import ReplayError

FORMAT = 1
HASH_EVERY_STEPS = 32


@dataclass(frozen=True, eq=False)
class EpisodeRecord:
    """One whole episode, and what is needed to play it again."""

    env_id: str
    env_kwargs: dict[str, Any]
    protocol: dict[str, Any]
    family: str
    fingerprint: str
    env: int
    """Which of the vector's environments."""
    seed: int
    """What that environment was last reset with."""
    ordinal: int
    """Episodes that this environment finished since that reset."""
    start_frame: int
    """Atari: emulator frames between the seed and this game."""
    noop_frames: int
    """Atari: emulator frames of this game before the agent's first step."""
    length: int
    """Agent steps."""
    episode_return: float
    """Undiscounted sum of the game's own rewards."""
    terminated: bool
    truncated: bool
    actions: np.ndarray
    """[length, ...]"""
    frame_hashes: tuple[int, ...]
    """crc32 of the newest frame after steps 32, 64, ... but never the last step."""
    extras: dict[str, Any] = field(default_factory=dict)
    """What the run adds: episode number, kind, env_steps, weights_sha256."""

    def to_json(self, **extras: Any) -> str:
        """Return the record as one line of JSON, without a newline."""
        line = {item.name: getattr(self, item.name) for item in fields(self)} | {"format": FORMAT}
        line["extras"] = self.extras | extras
        line["actions"] = base64.b64encode(zlib.compress(np.ascontiguousarray(self.actions).tobytes(), 9)).decode()
        line["action_dtype"], line["action_shape"] = self.actions.dtype.str, list(self.actions.shape)
        line["digest"] = _digest(line)
        return json.dumps(line, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> EpisodeRecord:
        """Read what `to_json` wrote; raise ReplayError if it is not that."""
        try:
            line = json.loads(text)
            version, digest = line.pop("format"), line.pop("digest")
        except (json.JSONDecodeError, AttributeError, TypeError, KeyError) as error:
            raise ReplayError("is cut short or is not an action replay; use the copy in the run folder") from error
        if version != FORMAT:
            raise ReplayError(f"has format {version}, this version reads {FORMAT}; use the joypad that wrote it")
        if digest != _digest(line | {"format": version}):
            raise ReplayError("was changed after it was written (its digest differs); use the copy in the run folder")
        try:
            data = zlib.decompress(base64.b64decode(line["actions"], validate=True))
            dtype, shape = np.dtype(line.pop("action_dtype")), line.pop("action_shape")
            line["actions"] = np.frombuffer(data, dtype).reshape(shape)
            line["frame_hashes"] = tuple(line["frame_hashes"])
            record = cls(**line)
        except (ValueError, TypeError, KeyError, zlib.error) as error:
            raise ReplayError(f"is malformed ({error}); use the copy in the run folder") from error
        expected = (record.length - 1) // HASH_EVERY_STEPS
        if record.length < 1 or len(record.actions) != record.length or len(record.frame_hashes) != expected:
            raise ReplayError(
                f"says {record.length} steps but holds {len(record.actions)} actions and "
                f"{len(record.frame_hashes)} frame hashes; use the copy in the run folder"
            )
        return record


def _digest(line: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_replays(path: str | Path) -> list[EpisodeRecord]:
    """Read every record of a `.jsonl`; raise ReplayError with the line's number for the first that is not one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ReplayError(f"cannot read the replays in {path}: {reason}") from error
    lines = text.splitlines()
    if len(lines) > 1 and not text.endswith("\n"):
        lines.pop()  # a training is writing it right now, or was killed while it did
    if not lines:
        raise ReplayError(f"{path} is empty: no episode has been finished yet")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(EpisodeRecord.from_json(line))
        except ReplayError as error:
            raise ReplayError(f"{path}, line {number}: the replay {error}") from error
    return records


def previous_episodes(records: Sequence[EpisodeRecord], index: int) -> list[EpisodeRecord]:
    """Return the episodes that the same environment played since its seed was set, before `records[index]`."""
    found: list[EpisodeRecord] = []
    wanted = records[index]
    for record in reversed(records[:index]):
        same = (record.env, record.seed, record.fingerprint) == (wanted.env, wanted.seed, wanted.fingerprint)
        if same and record.ordinal == wanted.ordinal - 1 - len(found):
            found.append(record)
    return found[::-1]


def frame_hash(obs: Any, space: gym.Space, stacked: bool) -> int:
    """Return the crc32 of the newest frame of one observation, or of the whole of it if it isn't a stack.

    A vector environment casts what its environments show to the dtype of `space`; so does this.
    """
    if not isinstance(space, gym.spaces.Dict):
        return zlib.crc32(np.asarray(obs[-1] if stacked else obs, space.dtype).tobytes())
    value = 0
    for key in sorted(space):
        value = zlib.crc32(np.asarray(obs[key], space[key].dtype).tobytes(), value)
    return value
