"""A run's config.json as a dataclass: written when a training starts, checked when it is read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import gymnasium as gym

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.presets.registry import ALGORITHMS
from agents.run import checkpoint
from agents.run.machine import MachineFacts
from agents.run.tracking import Labels, TrackMode
from networks.files import link_outside, write_atomically
from scripts.runner.encoders import EncoderFacts
from scripts.runner.origin import Origin


@dataclass(frozen=True)
class Spaces:
    """Observation and action space as the agent sees them, printed."""

    observation: str
    action: str

    @classmethod
    def of(cls, envs: gym.vector.VectorEnv) -> Spaces:
        """Print the spaces of one environment of the vector."""
        return cls(str(envs.single_observation_space), str(envs.single_action_space))


@dataclass(frozen=True)
class InitialRun:
    """The run whose weights a training started from."""

    run: str
    """Name of its folder."""
    checkpoint: str
    weights_sha256: str


@dataclass(frozen=True)
class RunRecord:
    """The content of config.json; the fields are its keys."""

    algo: str
    config: TrainConfig
    card: dict[str, Any]
    """The `GameSpec` as JSON, with frame stack and fingerprint."""
    spaces: Spaces
    machine_facts: MachineFacts
    origin: Origin
    """Its fields stand among the others in config.json."""
    run_id: str
    """Id on W&B."""
    track: TrackMode
    videos: bool
    """Whether the agent is recorded before and after training."""
    labels: Labels = field(default_factory=Labels)
    encoders: dict[str, EncoderFacts] = field(default_factory=dict)
    initial_run: InitialRun | None = None

    @property
    def fingerprint(self) -> str:
        """12 hex digits, equal only for games whose scores mean the same."""
        return self.card["fingerprint"]

    def to_json(self) -> dict[str, Any]:
        """Return the content of config.json, without its digest."""
        values = {
            "algo": self.algo,
            "env_id": self.config.env,
            "seed": self.config.seed,
            "config": asdict(self.config),
            "card": self.card,
            "spaces": asdict(self.spaces),
            "machine_facts": asdict(self.machine_facts),
            **self.origin.to_json(),
            "run_id": self.run_id,
            "track": self.track,
            "videos": self.videos,
            "labels": asdict(self.labels),
            "encoders": {key: asdict(facts) for key, facts in self.encoders.items()},
        }
        return values | ({"initial_run": asdict(self.initial_run)} if self.initial_run is not None else {})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunRecord:
        """Rebuild the record; raise ConfigError for an unknown algorithm, KeyError or TypeError for missing fields."""
        if values["algo"] not in ALGORITHMS:
            raise ConfigError(f"it was made by the algorithm {values['algo']}, which this version does not have")
        initial = values.get("initial_run")
        labels = values.get("labels", {})
        return cls(
            algo=values["algo"],
            config=ALGORITHMS[values["algo"]][0].from_json(values["config"]),
            card={**values["card"], "fingerprint": str(values["card"]["fingerprint"])},
            spaces=Spaces(**values["spaces"]),
            machine_facts=MachineFacts(**values["machine_facts"]),
            origin=Origin(**{each.name: values[each.name] for each in fields(Origin)}),
            run_id=values["run_id"],
            track=values["track"],
            videos=values["videos"],
            labels=Labels(**{**labels, "tags": tuple(labels.get("tags", ()))}),
            encoders={key: EncoderFacts(**facts) for key, facts in values.get("encoders", {}).items()},
            initial_run=InitialRun(**initial) if initial is not None else None,
        )

    def write(self, folder: Path) -> None:
        """Write config.json with its digest, whole or not at all."""
        content = json.dumps(checkpoint.add_digest(self.to_json()), indent=1)
        write_atomically(folder / "config.json", content)


def read_record(folder: Path) -> RunRecord:
    """Read a run folder's config.json; raise ConfigError, in one line, where that is impossible."""
    try:
        values = json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"{folder} is not a run folder: it has no config.json") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{folder}/config.json cannot be read ({error}); the run cannot be used") from error
    if link := link_outside(folder):
        raise ConfigError(link)
    if not isinstance(values, dict):
        raise ConfigError(f"{folder}/config.json is not the record of a run; the run cannot be used")
    if not checkpoint.digest_matches(values):
        raise ConfigError(f"{folder}/config.json was changed after it was written; restore it, or train a new run")
    try:
        return RunRecord.from_json(values)
    except ConfigError as error:
        raise ConfigError(f"{folder} cannot be used: {error}") from error
    except KeyError as error:
        raise ConfigError(f"{folder}/config.json has no field {error}; the run cannot be used") from error
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"{folder}/config.json is not the record of a run ({error})") from error
