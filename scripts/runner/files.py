"""Where runs lie, and the small files of experiments."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import yaml

from agents.errors import ConfigError
from networks.files import closest_existing, write_atomically

RUNS = Path(__file__).resolve().parents[2] / "runs"
"""Default folder of run folders."""


def time_stamp() -> str:
    """Return the time in seconds and four letters by chance, for the name of a new folder."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def check_folder(folder: Path, option: str) -> None:
    """Raise ConfigError where a folder that `option` names cannot exist, since it or a parent is a file."""
    first = folder if folder.exists() else closest_existing(folder.absolute())
    if not first.is_dir():
        raise ConfigError(f"{first} is a file; give {option} a folder")


def read_yaml(path: Path) -> Any:
    """Return a YAML file's content, or raise ConfigError."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=1) + "\n")
