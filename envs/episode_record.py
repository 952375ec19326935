"""Action replays on disk: the seed and actions of an episode, a few kB, enough to play it again bit for bit.

A run's `replays/train.jsonl` and `eval.jsonl` hold one `EpisodeRecord` per line. The digest in each line detects
corruption; forged records with a valid digest are detected by playing them (action_replays.py).
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
    """One complete episode, with everything needed to play it again; field names are keys of the file."""

    env_id: str
    env_kwargs: dict[str, Any]
    protocol: dict[str, Any]
    family: str
    fingerprint: str
    env: int
    """Index in the vector environment."""
    seed: int
    """Seed that the environment was last reset with."""
    ordinal: int
    """Number of episodes between that reset and this one."""
    start_frame: int
    """Atari: emulator frames between that reset and this game."""
    noop_frames: int
    """Atari: emulator frames of this game before the agent's first step."""
    length: int
    """Agent steps; not emulator frames."""
    episode_return: float
    """Undiscounted sum of the game's raw rewards."""
    terminated: bool
    truncated: bool
    actions: np.ndarray
    """[length, *shape of an action]."""
    frame_hashes: tuple[int, ...]
    """crc32 of the newest frame after steps 32, 64, ..., without the last step."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Added by the run: episode number, kind, env_steps, weights_sha256."""

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
        """Parse a line written by `to_json`; raise ReplayError if it is malformed or was changed."""
        try:
            line = json.loads(text)
            version, digest = line.pop("format"), line.pop("digest")
        except (json.JSONDecodeError, AttributeError, TypeError, KeyError) as error:
            raise ReplayError("is incomplete or is not an action replay; use the copy in the run folder") from error
        if version != FORMAT:
            raise ReplayError(
                f"has format {version}, but this version of joypad reads {FORMAT}; use the version that wrote it"
            )
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
                f"has a length of {record.length} steps but {len(record.actions)} actions and "
                f"{len(record.frame_hashes)} frame hashes; use the copy in the run folder"
            )
        return record


def _digest(line: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_replays(path: str | Path) -> list[EpisodeRecord]:
    """Read the records of a `.jsonl` file; raise ReplayError with the line number of the first invalid one.

    An incomplete last line is skipped: the file may belong to a run that is writing it, or that was killed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ReplayError(f"cannot read the action replays in {path}: {reason}") from error
    *lines, last = text.split("\n")  # not splitlines: JSON may hold other characters that end a line of text
    if last and not lines:
        lines = [last]
    if not lines:
        raise ReplayError(f"{path} is empty: no episode has ended yet")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(EpisodeRecord.from_json(line))
        except ReplayError as error:
            raise ReplayError(f"{path}, line {number}: the action replay {error}") from error
    return records


def previous_episodes(records: Sequence[EpisodeRecord], index: int) -> list[EpisodeRecord]:
    """Return the episodes of the same environment between its seeded reset and `records[index]`, oldest first."""
    previous: list[EpisodeRecord] = []
    target = records[index]
    for record in reversed(records[:index]):
        same = (record.env, record.seed, record.fingerprint) == (target.env, target.seed, target.fingerprint)
        if same and record.ordinal == target.ordinal - 1 - len(previous):
            previous.append(record)
    return previous[::-1]


def frame_hash(obs: Any, space: gym.Space, stacked: bool) -> int:
    """Return the crc32 of an observation: of the newest frame if it is a stack of frames, else of all of it.

    Arrays are cast to the dtype of `space`, as vector environments do.
    """
    if not isinstance(space, gym.spaces.Dict):
        return zlib.crc32(np.asarray(obs[-1] if stacked else obs, space.dtype).tobytes())
    value = 0
    for key in sorted(space):
        value = zlib.crc32(np.asarray(obs[key], space[key].dtype).tobytes(), value)
    return value
