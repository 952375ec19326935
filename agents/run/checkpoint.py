"""Checkpoints: folders of tensors and JSON, complete or absent, verified by hash when read, never unpickled.

checkpoints/step_000250000/   model.safetensors (networks and optimizer), state.json (counters, hashes),
                              replay.safetensors (priorities of a prioritized replay)
checkpoints/replay/           rows_<first>_<end>.safetensors: written once, shared by later checkpoints
checkpoints/latest, best      text files with the name of a folder, replaced atomically
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from agents.errors import CheckpointError
from agents.interface import Agent
from agents.replay.buffer import Piece, Replay
from networks.files import write_atomically

FORMAT = 3
KEEP = 2
"""Number of recent checkpoints to keep, in addition to the best."""


class Counters(TypedDict):
    """The counters of a run at a checkpoint."""

    env_steps: int
    updates: int
    episodes: int
    leg: int
    """Index of the next segment; the key's name is part of the format."""
    wall_seconds: float
    logged_steps: int
    """Env steps at the last line of learning metrics."""
    returns: list[float]
    """Returns of the last full games."""
    best_return: float | None
    offsets: dict[str, int]
    """Bytes of each log."""


class State(Counters):
    """state.json: the counters, and hashes of the checkpoint's files."""

    format: int
    agent_updates: int
    replay: list[Piece]
    weights_sha256: str
    model_sha256: str
    replay_sha256: NotRequired[str]
    digest: NotRequired[str]


def save(folder: Path, name: str, agent: Agent, counters: Counters, replay: Replay | None, best: bool) -> None:
    """Write checkpoint `name` into `folder`, point `latest` (and `best`) at it, and delete old checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = agent.optimizer_state()
    tensors = {f"optimizer.{key}": value for key, value in optimizer["tensors"].items()}
    for prefix, module in agent.modules().items():
        shared = shared_tensors(module)
        tensors |= {f"{prefix}.{key}": value for key, value in module.state_dict().items() if key not in shared}
    temporary = folder / f".{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        pieces = _save_replay(folder / "replay", replay) if replay is not None else []
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        _save_tensors(safetensors.torch.save_file, contiguous, temporary / "model.safetensors")
        state: State = {
            "format": FORMAT, **counters, "agent_updates": optimizer["updates"], "replay": pieces,
            "weights_sha256": weights_sha256(agent), "model_sha256": _file_sha256(temporary / "model.safetensors"),
        }  # fmt: skip
        replay_state = replay.state() if replay is not None else {}
        if replay_state:
            _save_tensors(safetensors.numpy.save_file, replay_state, temporary / "replay.safetensors")
            state["replay_sha256"] = _file_sha256(temporary / "replay.safetensors")
        write_atomically(temporary / "state.json", json.dumps(add_digest(state), indent=1))
        shutil.rmtree(folder / name, ignore_errors=True)
        os.replace(temporary, folder / name)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    # latest comes last: a run killed before it resumes from the previous checkpoint and writes this one again
    for pointer in ("best", "latest") if best else ("latest",):
        write_atomically(folder / pointer, name)
    if replay is not None:
        replay.saved_row = replay.next_row
    _prune(folder)


def shared_tensors(module: nn.Module) -> dict[str, str]:
    """Return, for each tensor that an earlier key also names, that key: two parts of a network may share layers."""
    first: dict[tuple[Any, ...], str] = {}
    shared: dict[str, str] = {}
    for key, value in module.state_dict().items():
        memory = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and first.setdefault(memory, key) != key:
            shared[key] = first[memory]
    return shared


def resolve(folder: Path, which: str = "latest") -> Path:
    """Return the folder of checkpoint `which`: latest, best or a name; raise CheckpointError if it is missing."""
    pointer = folder / which
    if not folder.is_dir() or not pointer.exists():
        raise CheckpointError(f"no checkpoint '{which}' in {folder}: the run ended before saving one, or it was moved")
    try:
        path = folder / pointer.read_text().strip() if pointer.is_file() else pointer
        complete = path != folder and (path / "state.json").is_file()
    except ValueError as error:
        raise CheckpointError(f"{pointer} is not a pointer to a checkpoint; use another one of {folder}") from error
    if path.resolve().parent != folder.resolve():
        raise CheckpointError(f"{pointer} leads out of {folder}; use another checkpoint of it")
    if not complete:
        raise CheckpointError(f"{pointer} names {path.name}, which does not exist; use another checkpoint of {folder}")
    return path


def read_state(path: Path) -> State:
    """Return the checkpoint's counters; raise CheckpointError if its files are missing or were changed."""
    try:
        state = json.loads((path / "state.json").read_text())
        model_sha256 = _file_sha256(path / "model.safetensors")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; use another checkpoint") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} has a format that this version cannot read; use the version that wrote it")
    if not digest_matches(state):
        raise CheckpointError(f"{path}/state.json was changed after it was written; use another checkpoint")
    if model_sha256 != state.get("model_sha256"):
        raise CheckpointError(f"{path}/model.safetensors is not the file that was saved; use another checkpoint")
    return cast(State, state)


def load_agent(path: Path, agent: Agent) -> State:
    """Load networks and optimizer into `agent`; return the counters. Raises CheckpointError if they do not fit."""
    state = load_weights(path, agent)
    try:
        tensors = safetensors.torch.load_file(path / "model.safetensors", device=str(agent.device))
        optimizer = {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
        agent.load_optimizer_state({"tensors": optimizer, "updates": state["agent_updates"]})
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise _misfit(path, error) from error
    return state


def load_weights(path: Path, agent: Agent) -> State:
    """Load the networks without the optimizer into `agent`; return the counters. Raises CheckpointError too."""
    state = read_state(path)
    try:
        tensors = safetensors.torch.load_file(path / "model.safetensors", device=str(agent.device))
        for prefix, module in agent.modules().items():
            start = f"{prefix}."
            own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            shared = {key: own[first] for key, first in shared_tensors(module).items() if first in own}
            module.load_state_dict(own | shared)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise _misfit(path, error) from error
    return state


def _misfit(path: Path, error: Exception) -> CheckpointError:
    lines = str(error).strip().splitlines()  # torch's have a heading, and a line for each mismatch below
    mismatch = textwrap.shorten(lines[min(1, len(lines) - 1)], 200, placeholder=" ...")
    return CheckpointError(f"{path} does not fit the network of this run: {mismatch}")


def load_replay(checkpoint: Path, state: State, replay: Replay) -> None:
    """Load the rows that `state` lists into `replay`; raise CheckpointError for a missing or changed file.

    Newer pieces, of a checkpoint that was never completed, stay on disk until the next checkpoint.
    """
    for piece in state["replay"]:
        path = checkpoint.parent / "replay" / piece["file"]
        if Path(piece["file"]).name != piece["file"]:
            raise CheckpointError(f"{path} leads out of the run; it cannot be resumed")
        _load_arrays(path, piece["sha256"], partial(replay.restore, piece["first_row"]))
    replay.pieces = list(state["replay"])  # the next checkpoint lists them again as long as the ring has their rows
    if "replay_sha256" in state:
        _load_arrays(checkpoint / "replay.safetensors", state["replay_sha256"], replay.load_state)


def _load_arrays(path: Path, sha256: str, load: Callable[[dict[str, Any]], None]) -> None:
    """Call `load` with a file's arrays; raise CheckpointError if the file was changed or does not fit the replay."""
    if not path.is_file() or _file_sha256(path) != sha256:
        raise CheckpointError(f"{path} is missing or not the file that was saved; the run cannot be resumed")
    try:
        load(safetensors.numpy.load_file(path))
    except (SafetensorError, KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path} does not fit the replay of this run: {error}") from error


def add_digest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` and their `digest`, by which a later change of the file is detected."""
    return {**values, "digest": _digest(values)}


def digest_matches(values: Mapping[str, Any]) -> bool:
    """Whether `values`, read from JSON, are unchanged since `add_digest`."""
    return values.get("digest") == _digest({key: value for key, value in values.items() if key != "digest"})


def weights_sha256(agent: Agent) -> str:
    """Return the SHA-256 of all weights and buffers of the agent's networks, in the order of their names."""
    digest = hashlib.sha256()
    for prefix, module in sorted(agent.modules().items()):
        for key, value in sorted(module.state_dict().items()):
            digest.update(f"{prefix}.{key}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def non_finite(agent: Agent) -> str | None:
    """Return the name of the first parameter with a non-finite value or gradient, or None."""

    def bad(tensor: Tensor | None) -> bool:
        return tensor is not None and not bool(torch.isfinite(tensor).all())

    for prefix, module in agent.modules().items():
        for key, parameter in module.named_parameters():
            if bad(parameter) or bad(parameter.grad):
                return f"{prefix}.{key}"
    return None


def _save_replay(folder: Path, replay: Replay) -> list[Piece]:
    """Write the rows since the last checkpoint; return all pieces with rows that are in the ring, oldest first."""
    folder.mkdir(exist_ok=True)
    pieces = [piece for piece in replay.pieces if piece["end_row"] > replay.oldest_row]
    for first_row, arrays in replay.unsaved():
        end_row = first_row + len(arrays["action"])
        path = folder / f"rows_{first_row:010d}_{end_row:010d}.safetensors"
        temporary = path.with_suffix(".tmp")
        try:
            _save_tensors(safetensors.numpy.save_file, arrays, temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        piece: Piece = {"file": path.name, "first_row": first_row, "end_row": end_row, "sha256": _file_sha256(path)}
        pieces.append(piece)
    replay.pieces = pieces
    return pieces


def _prune(folder: Path) -> None:
    """Delete all checkpoints but the newest `KEEP` and the best, and replay pieces that the newest do not use.

    The best can be watched and evaluated, but not resumed: its replay would need all pieces since.
    """
    latest, best = ((folder / name).read_text() if (folder / name).is_file() else "" for name in ("latest", "best"))
    newest = sorted(path.name for path in folder.glob("step_*") if path.name <= latest)[-KEEP:]
    for path in folder.glob("step_*"):
        if path.name not in {*newest, best}:
            shutil.rmtree(path, ignore_errors=True)
    try:
        states = [json.loads((folder / name / "state.json").read_text()) for name in newest]
        used = {piece["file"] for state in states for piece in state["replay"]}
    except (OSError, ValueError, KeyError, TypeError):  # an older one is damaged: any piece may be in use, keep all
        return
    for path in (folder / "replay").glob("rows_*"):
        if path.name not in used:
            path.unlink(missing_ok=True)


def _save_tensors(save_file: Callable[..., None], tensors: dict[str, Any], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # raised for a full disk
        raise OSError(None, str(error), str(path)) from error


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
