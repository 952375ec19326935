"""Save and load encoder folders, atomically and without pickle.

config.json             spec, training data and settings, hashes of the other files
encoder.safetensors     network weights, including input normalisation
heads.safetensors       the task's heads
labels.json vocab.json  class names, words in order
report.json             metrics
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from torch import Tensor

from networks.encoders.base import Encoder, EncoderError, EncoderSpec, build, space_from_json, space_to_json
from networks.encoders.vocabulary import Vocabulary

TENSORS = ("encoder.safetensors", "heads.safetensors")
PACKED, SCALE = ".int8", ".scale"
"""Key suffixes of a matrix quantised to 8 bits."""
MAX_BYTES = 2_000_000_000
"""Larger files are refused before they are read."""


@dataclass(frozen=True)
class Stored:
    """A loaded encoder folder."""

    folder: Path
    encoder: Encoder
    config: dict[str, Any]
    heads: dict[str, Tensor]
    labels: dict[str, Any] = field(default_factory=dict)
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of the encoder's weights."""
        return str(self.config["files"]["encoder.safetensors"])

    @property
    def env_frames(self) -> int:
        """Environment frames used for pretraining."""
        return int((self.config.get("data") or {}).get("env_frames", 0))


def save(
    folder: Path, encoder: Encoder, heads: dict[str, Tensor], facts: dict[str, Any], report: dict[str, Any],
    labels: dict[str, Any] | None = None, vocabularies: dict[str, Vocabulary] | None = None, int8: bool = False,
) -> None:  # fmt: skip
    """Write an encoder folder atomically, replacing an existing one; `facts` go into config.json beside the spec.

    With `int8`, matrices are stored in 8 bits, a quarter of the size; loading restores floats.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, tensors in zip(TENSORS, (encoder.state_dict(), heads), strict=True):
            tensors_on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            safetensors.torch.save_file(pack(tensors_on_cpu) if int8 else tensors_on_cpu, temporary / name)
        words = {name: vocabulary.to_json() for name, vocabulary in (vocabularies or {}).items()}
        for name, values in (("labels.json", labels or {}), ("vocab.json", words), ("report.json", report)):
            (temporary / name).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
        files = {name: _sha256(temporary / name) for name in (*TENSORS, "labels.json", "vocab.json")}
        config = {"spec": encoder.spec.to_json(), **facts, "files": files}
        (temporary / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n")
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        if folder.exists():
            folder.replace(old)
        temporary.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find(path: Path) -> Path:
    """Return the encoder folder at a path: the path itself, or `encoder` below a run folder."""
    for folder in (path, path / "encoder"):
        if (folder / "config.json").is_file() and (folder / TENSORS[0]).is_file():
            return folder
    raise EncoderError(f"{path} holds no encoder; give a folder made by scripts/pretrain.py")


def load(path: Path) -> Stored:
    """Load an encoder folder; raise EncoderError if it is damaged, modified or from a later version."""
    folder = find(path)
    try:
        config = json.loads((folder / "config.json").read_text())
        spec = EncoderSpec.from_json(config["spec"])
        for name, digest in config["files"].items():
            if (folder / name).stat().st_size > MAX_BYTES:
                raise EncoderError(f"{name} is larger than {MAX_BYTES / 1e9:g} GB")
            if name != Path(name).name or _sha256(folder / name) != digest:
                raise EncoderError(f"{name} is not the file that was saved")
        encoder = build(spec.arch, space_from_json(spec.input), **spec.kwargs)
        if (encoder.out_dim, encoder.spec.modality) != (spec.out_dim, spec.modality):
            raise EncoderError(f"its architecture '{spec.arch}' has changed since; train it again")
        encoder.spec = spec
        encoder.load_state_dict(unpack(safetensors.torch.load_file(folder / TENSORS[0])))
        heads = unpack(safetensors.torch.load_file(folder / TENSORS[1]))
        labels = json.loads((folder / "labels.json").read_text())
        words = json.loads((folder / "vocab.json").read_text())
        vocabularies = {name: Vocabulary.from_json(values) for name, values in words.items()}
    except EncoderError as error:
        raise EncoderError(f"the encoder {folder} cannot be used: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(f"the encoder {folder} cannot be read: {reason}") from error
    return Stored(folder, encoder.eval(), config, heads, labels, vocabularies)


def check_fits(stored: Stored, key: str, space: spaces.Space) -> None:
    """Raise EncoderError, naming the difference, unless the encoder takes observations of `space`."""
    expected = stored.encoder.spec.input
    try:
        actual = space_to_json(space)
    except EncoderError as error:
        raise EncoderError(f"the encoder {stored.folder} does not fit '{key}': {error}") from error
    for name in ("kind", "shape", "dtype", "size"):
        if expected.get(name) != actual.get(name):
            raise EncoderError(
                f"the encoder {stored.folder} expects {_format_space(expected)}, but '{key}' is "
                f"{_format_space(actual)}{_remedy(name, expected, actual)}"
            )


def _format_space(values: dict[str, Any]) -> str:
    shape = "x".join(str(size) for size in values["shape"])
    words = f" of {values['size']} words" if "size" in values else ""
    return f"{values['dtype']} {values['kind']} {shape}{words}"


def _remedy(name: str, expected: dict[str, Any], actual: dict[str, Any]) -> str:
    if name == "dtype" and expected["dtype"] == "uint8":
        return ": it normalises uint8 by itself, give it the raw frames"
    if name == "shape" and len(expected["shape"]) == 3 and len(actual["shape"]) == 3:
        if actual["shape"][0] > actual["shape"][2]:
            return ": give it the channels first"
        if expected["shape"][1] == expected["shape"][2] != actual["shape"][1]:
            return f": use --image-size {expected['shape'][1]}"
    if name == "size":
        return ": it was trained on another vocabulary"
    return ""


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise matrices to int8 with one scale per row; input normalisation stays in floats."""
    packed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if value.dim() < 2 or not value.is_floating_point() or "normalize." in key or "log_mel." in key:
            packed[key] = value
            continue
        rows = value.flatten(1)
        scale = rows.abs().amax(dim=1).clamp(min=1e-12) / 127.0
        packed[key + PACKED] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape)
        packed[key + SCALE] = scale
    return packed


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack`."""
    unpacked: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.endswith(PACKED):
            name = key.removesuffix(PACKED)
            scale = tensors[name + SCALE]
            unpacked[name] = value.to(scale.dtype) * scale.view(-1, *[1] * (value.dim() - 1))
        elif not key.endswith(SCALE) or key.removesuffix(SCALE) + PACKED not in tensors:
            unpacked[key] = value
    return unpacked


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
