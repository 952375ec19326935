"""Short recorded episodes of random play in any environment."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from envs.action_replays import EpisodeRecord
from envs.make import make_envs, resolve_protocol
from envs.protocols import Protocol


def short(env_id: str, name: str = "auto", max_frames: int = 400) -> Protocol:
    protocol = resolve_protocol(env_id, name)
    return replace(protocol, max_frames=max_frames) if env_id.startswith("ALE/") else protocol


@cache
def episodes(env_id: str, count: int, name: str = "auto", max_frames: int = 400, seed: Any = 5) -> list[EpisodeRecord]:
    """Play at random in two environments until at least `count` episodes have ended."""
    envs = make_envs(env_id, 2, short(env_id, name, max_frames), threads=1)
    generator, records = np.random.default_rng(0), []
    envs.reset(seed=seed)
    while len(records) < count:
        *_, info = envs.step(generator.integers(envs.single_action_space.n, size=2))
        records += info.get("episodes", [])
    envs.close()
    return records


def write(path: Path, records: list[EpisodeRecord]) -> Path:
    path.write_text("".join(record.to_json() + "\n" for record in records))
    return path


def edited(record: EpisodeRecord, **changes: Any) -> EpisodeRecord:
    """Return a forged record: changed, with a valid digest."""
    return EpisodeRecord.from_json(replace(record, **changes).to_json())


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
