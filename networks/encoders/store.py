"""Encoders as folders: config.json, safetensors, labels, vocabulary, report. Written whole or not at all; no pickle.

config.json             the spec, what it was trained on, hashes of the files beside it
encoder.safetensors     the network, with the constants of its input
heads.safetensors       what the task put on top of it, so that it can be evaluated and used
labels.json vocab.json  names of classes, words in their order
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

from networks.encoders.base import Encoder, EncoderError, EncoderSpec, build, describe, space_of
from networks.encoders.vocabulary import Vocabulary

TENSORS = ("encoder.safetensors", "heads.safetensors")
PACKED, SCALE = ".int8", ".scale"
"""Ends of the names of a matrix in eight bits."""
LIMIT_BYTES = 2_000_000_000
"""A file beyond this is refused before it is read."""


@dataclass(frozen=True)
class Stored:
    """An encoder folder that was read."""

    folder: Path
    encoder: Encoder
    config: dict[str, Any]
    heads: dict[str, Tensor]
    labels: dict[str, Any] = field(default_factory=dict)
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """What tells its weights apart."""
        return str(self.config["files"]["encoder.safetensors"])

    @property
    def env_frames(self) -> int:
        """Frames of games that it was trained on."""
        return int((self.config.get("data") or {}).get("env_frames", 0))


def save(
    folder: Path, encoder: Encoder, heads: dict[str, Tensor], facts: dict[str, Any], report: dict[str, Any],
    labels: dict[str, Any] | None = None, vocabularies: dict[str, Vocabulary] | None = None, int8: bool = False,
) -> None:  # fmt: skip
    """Write an encoder folder, replacing one that is there; `facts` go into config.json beside the spec.

    With `int8` matrices are kept in eight bits, a quarter of the size; they are computed with as ever.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, tensors in zip(TENSORS, (encoder.state_dict(), heads), strict=True):
            whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            safetensors.torch.save_file(pack(whole) if int8 else whole, temporary / name)
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
    """Return the encoder folder that a path means: itself, or `encoder` in a run folder."""
    for folder in (path, path / "encoder"):
        if (folder / "config.json").is_file() and (folder / TENSORS[0]).is_file():
            return folder
    raise EncoderError(f"{path} holds no encoder; give a folder that scripts/pretrain.py made")


def load(path: Path) -> Stored:
    """Read an encoder folder; raise EncoderError for one that is damaged, changed or of a later version."""
    folder = find(path)
    try:
        config = json.loads((folder / "config.json").read_text())
        spec = EncoderSpec.from_json(config["spec"])
        for name, wanted in config["files"].items():
            if (folder / name).stat().st_size > LIMIT_BYTES:
                raise EncoderError(f"{name} is larger than {LIMIT_BYTES / 1e9:g} GB")
            if name != Path(name).name or _sha256(folder / name) != wanted:
                raise EncoderError(f"{name} is not the file that was saved")
        encoder = build(spec.arch, space_of(spec.input), **spec.kwargs)
        if (encoder.out_dim, encoder.spec.modality) != (spec.out_dim, spec.modality):
            raise EncoderError(f"its architecture '{spec.arch}' has changed since; train it anew")
        encoder.spec = spec
        encoder.load_state_dict(unpack(safetensors.torch.load_file(folder / TENSORS[0])))
        heads = unpack(safetensors.torch.load_file(folder / TENSORS[1]))
        labels = json.loads((folder / "labels.json").read_text())
        words = json.loads((folder / "vocab.json").read_text())
        vocabularies = {name: Vocabulary.from_json(values) for name, values in words.items()}
    except EncoderError as error:
        raise EncoderError(f"the encoder {folder} cannot be used: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(f"the encoder {folder} cannot be read: {first}") from error
    return Stored(folder, encoder.eval(), config, heads, labels, vocabularies)


def check_fits(stored: Stored, key: str, space: spaces.Space) -> None:
    """Raise EncoderError unless the encoder reads observations of `space`, and say how they differ."""
    wanted, found = stored.encoder.spec.input, None
    try:
        found = describe(space)
    except EncoderError as error:
        raise EncoderError(f"the encoder {stored.folder} cannot read '{key}': {error}") from error
    for name in ("kind", "shape", "dtype", "size"):
        if wanted.get(name) != found.get(name):
            hint = _hint(name, wanted, found)
            raise EncoderError(
                f"the encoder {stored.folder} expects {_words(wanted)}, '{key}' is {_words(found)}{hint}"
            )


def _words(about: dict[str, Any]) -> str:
    shape = "x".join(str(size) for size in about["shape"])
    words = f" of {about['size']} words" if "size" in about else ""
    return f"{about['dtype']} {about['kind']} {shape}{words}"


def _hint(name: str, wanted: dict[str, Any], found: dict[str, Any]) -> str:
    """Return what to do about a difference, where that is known."""
    if name == "dtype" and wanted["dtype"] == "uint8":
        return ": it normalises uint8 by itself, give it the raw frames"
    if name == "shape" and len(wanted["shape"]) == 3 and len(found["shape"]) == 3:
        if found["shape"][0] > found["shape"][2]:
            return ": give it the channels first"
        if wanted["shape"][1] == wanted["shape"][2] != found["shape"][1]:
            return f": use --image-size {wanted['shape'][1]}"
    if name == "size":
        return ": it was trained on another vocabulary"
    return ""


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return matrices as 8-bit numbers and a scale for each row; what normalises inputs stays as it is."""
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
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.endswith(PACKED):
            name = key.removesuffix(PACKED)
            scale = tensors[name + SCALE]
            found[name] = value.to(scale.dtype) * scale.view(-1, *[1] * (value.dim() - 1))
        elif not key.endswith(SCALE) or key.removesuffix(SCALE) + PACKED not in tensors:
            found[key] = value
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
