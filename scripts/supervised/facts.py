"""Facts about a trained encoder, as stored in its config.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.errors import ConfigError
from networks.encoders.store import Stored
from networks.supervised.data import Data
from networks.supervised.fit import FitConfig
from scripts.runner.origin import origin
from scripts.supervised.tasks.base import DataOptions


@dataclass(frozen=True)
class PretrainingFacts:
    """How an encoder was trained."""

    task: str
    examples: int
    """As requested; the data set can be smaller."""
    data_seed: int
    """Seed of the examples and their split; older runs used the seed of the training."""
    env: str | None
    image_size: int | None
    path: Path | None
    """Data set on disk."""
    untrained: bool
    augment: tuple[str, ...]
    distilled_from: str | None
    """Hash of the teacher."""
    start: dict[str, str] | None
    """Task and hash of the encoder it started from."""
    data: dict[str, Any]
    """Facts of the task, env frames, and the fingerprints of the splits."""
    config: FitConfig
    seconds: float
    """Training time."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts with the code, machine and command that produced them."""
        facts = asdict(self)
        facts["from"] = facts.pop("start")
        facts["path"] = str(self.path) if self.path else None
        return {**facts, **origin().to_json()}

    def check_unseen(self, folder: Path, task: str, source: DataOptions, test: Data) -> None:
        """Raise ConfigError if this encoder, in `folder`, can have been trained on a part of `test`, from `source`."""
        if (self.task, self.env, self.path) != (task, source.env, source.path):
            return  # other examples altogether
        same = (self.data_seed, self.examples) == (source.seed, source.examples)
        if not same and test.fingerprint != self.data["fingerprints"][2]:
            raise ConfigError(
                f"{folder} was trained on another split (--data-seed {self.data_seed} --examples {self.examples}), "
                f"which can hold test examples of this one (--data-seed {source.seed} --examples {source.examples}); "
                "use the same two for both"
            )

    @classmethod
    def of(cls, stored: Stored) -> PretrainingFacts:
        """Read the facts of a saved encoder; raise ConfigError if pretrain.py did not save it."""
        saved = stored.config
        try:
            return cls(
                saved["task"], saved["examples"], saved.get("data_seed", saved["config"]["seed"]), saved["env"],
                saved.get("image_size"),
                Path(saved["path"]) if saved["path"] else None, bool(saved.get("untrained")),
                tuple(saved.get("augment", ())), saved.get("distilled_from"), saved.get("from"), saved["data"],
                FitConfig(**saved["config"]), saved["seconds"],
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"the encoder {stored.folder} was not trained by this version of pretrain.py: {error}"
            ) from error
