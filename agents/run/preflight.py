"""Before training: one screen that says what will happen, and warns of mistakes that would waste the run."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import psutil
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table

from agents.build import frame_stack, replay_class, replay_layout, spills
from agents.config import TrainConfig
from agents.interface import GameSpec
from agents.learner import Learner
from agents.loops import RolloutCollector, interact, learning_view
from agents.run import machine
from networks.observation_spaces import is_image, observation_bytes, parts_of
from networks.torsos.build import torso_name

BASE_MEMORY = 500_000_000
"""Bytes that Python, torch and the other libraries take."""
ROW_SECONDS, LEARN_SECONDS = 0.5, 1.0
"""How long the calibration plays and learns."""


@dataclass
class Plan:
    """What a training will do, and what speaks against it."""

    lines: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print the plan as one table, warnings below."""
        table = Table(title="pre-flight", show_header=False, title_justify="left", box=None, padding=(0, 2))
        for name, value in self.lines.items():
            table.add_row(f"[bold]{name}[/]", value)
        console.print(table)
        for warning in self.warnings:
            console.print(f"[yellow]warning:[/] {warning}", highlight=False, soft_wrap=True)


def plan(agent: Learner, envs: gym.vector.VectorEnv, game: GameSpec, folder: Path) -> Plan:
    """Describe the training; measures for a few seconds, on copies, so that the training itself is not touched."""
    config = agent.config
    layout = replay_layout(config, envs, agent.carry_dim)
    replay_bytes = config.replay_bytes(envs.single_observation_space, frame_stack(envs), agent.carry_dim)
    spilled = layout is not None and spills(layout, config.replay_storage)  # type: ignore[attr-defined]
    model_bytes = sum(p.numel() * p.element_size() for m in agent.modules().values() for p in m.parameters())
    speed = agent.rehearse(envs) or _steps_per_second(agent, envs)
    result = Plan(warnings=warnings_for(config, envs.single_observation_space, game))
    lines = result.lines
    made = ", ".join(f"{name} {value}" for name, value in config.env_kwargs.items())
    name = f"{config.env} with {made}" if made else config.env
    lines["game"] = f"{name} under the protocol {game.protocol.name} (fingerprint {game.fingerprint})"
    lines["observation"] = str(envs.single_observation_space)
    lines["network"] = _network(agent)
    small = smaller_than_published(config, game)
    if small:
        lines["note"] = small
    lines["training"] = f"{config.total_steps:,} env steps in {config.num_envs} environments, {config.updates_line()}"
    lines["schedule"] = config.schedule_line()
    lines["checkpoints"] = f"every {config.checkpoint_steps:,} env steps, in {folder}"
    needed = BASE_MEMORY + (0 if spilled else replay_bytes) + 6 * model_bytes + _rollout_bytes(config, envs)
    where = "replay in files on disk" if spilled else "replay"
    replay = f"{replay_bytes / 1e9:.3f} GB for {where} (exact), " if replay_bytes else ""
    lines["memory"] = f"{replay}about {needed / 1e9:.1f} GB in all; {machine.available_memory() / 1e9:.1f} GB are free"
    disk = 4 * 3 * model_bytes + replay_bytes * (2 if spilled else 1) + config.total_steps * 2
    lines["disk"] = f"up to {disk / 1e9:.2f} GB; {psutil.disk_usage(str(existing(folder))).free / 1e9:.0f} GB are free"
    facts = f"{agent.device}, {torch.get_num_threads()} threads, {'bf16' if agent.bf16 else 'fp32'}"
    seconds = config.total_steps / speed
    lines["predicted"] = f"{speed:,.0f} env steps/s on {facts}: done in about {_duration(seconds)}"
    if needed > machine.available_memory():
        result.warnings.append(f"this needs more memory than is free; lower {config.replay_option} or --num-envs")
    if disk > psutil.disk_usage(str(existing(folder))).free:
        result.warnings.append("this needs more disk than is free; choose another --run-dir or a smaller replay")
    return result


def warnings_for(config: TrainConfig, space: spaces.Space, game: GameSpec) -> list[str]:
    """Return one line for every known mistake in these settings."""
    found = []
    image = any(is_image(part) for part in parts_of(space))
    if image and config.torso == "mlp":
        found.append("the observation is an image but --torso mlp flattens it; use --torso auto")
    if config.life_loss_ends and game.protocol.frame_skip > 1 and not game.protocol.life_information:
        found.append(f"--life-loss-ends has no effect: the protocol {game.protocol.name} hides lives")
    if config.checkpoint_steps // config.num_envs < 500 and config.total_steps > config.checkpoint_steps:
        found.append(
            "checkpoints cut all episodes every few hundred steps of each environment; raise --checkpoint-steps"
        )
    if (
        image and game.frame_stack > 1 and config.core != "none" and not config.observe_last
    ):  # R2D2 stacks frames, as published
        found.append(
            "a memory on stacked frames sees each frame several times; it learns, but costs more than it needs"
        )
    if game.family == "atari" and not config.bounds_reward_scale and config.input_norm == "scale":
        found.append("rewards are not clipped; games with large scores may need --clip-rewards")
    return found + config.warnings()


def smaller_than_published(config: TrainConfig, game: GameSpec) -> str:
    """Return a sentence where an Atari agent sees or is less than in the literature; empty elsewhere."""
    if game.family != "atari":
        return ""
    size, network = game.protocol.image_size, config.torso
    parts = [f"frames of {size}x{size}"] if size < 84 else []
    parts += [f"the small network {network}"] if network == "pong-small" else []
    return f"{' and '.join(parts)}: not to be set beside published 84x84, Nature CNN results" if parts else ""


def _network(agent: Learner) -> str:
    name = agent.config.torso if agent.config.torso != "auto" else torso_name(agent.observation_space)
    count = sum(parameter.numel() for parameter in agent.model.parameters())
    core = f" + {agent.config.core} of {agent.config.core_size}" if agent.config.core != "none" else ""
    return f"{name}{core}, {count:,} parameters, inputs by {agent.config.input_norm}"


def _rollout_bytes(config: TrainConfig, envs: gym.vector.VectorEnv) -> int:
    per_env = observation_bytes(envs.single_observation_space)
    return 3 * config.rows_in_memory * config.num_envs * per_env


def existing(folder: Path) -> Path:
    """Return the folder, or the closest one above it that exists."""
    return folder if folder.exists() else existing(folder.parent)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _steps_per_second(agent: Learner, envs: gym.vector.VectorEnv) -> float:
    """Play and learn for a moment with a copy of the agent; return env steps per second of the whole training."""
    twin, config = copy.deepcopy(agent), cast(Any, agent.config)
    rng, numpy_rng = torch.Generator(agent.device).manual_seed(0), np.random.default_rng(0)
    rows = interact(twin, envs, list(range(envs.num_envs)), rng, 0)
    layout = replay_layout(config, envs, agent.carry_dim)
    length = config.rows_in_memory  # a whole rollout, so that its update can be timed on real data
    if layout is not None:  # enough for several samples, however long the sequences
        length = max(32, layout.window + layout.n_step + 2 * layout.stride)
    small = None
    if layout is not None:
        small = replay_class(layout)(replace(layout, capacity=envs.num_envs * 2 * length), agent.device)
    collector, count = RolloutCollector(length, agent.device), 0
    begin = time.perf_counter()
    while count < length or (small is not None and time.perf_counter() - begin < ROW_SECONDS):
        row = learning_view(next(rows), config.clip_rewards, config.life_loss_ends)
        collector.add(row) if small is None else small.add(row)
        count += 1
    per_step = (time.perf_counter() - begin) / (count * envs.num_envs)
    begin, updates = time.perf_counter(), 0
    while updates == 0 or (small is not None and time.perf_counter() - begin < LEARN_SECONDS):
        batch: Any = collector.rollout() if small is None else small.sample(config.batch_size, numpy_rng)
        _, priorities = twin.update(batch, rng)
        if small is not None:
            small.update_priorities(batch.indices, priorities)
        updates += 1
    per_update = (time.perf_counter() - begin) / updates
    ratio = config.replay_ratio if small is not None else 1.0 / (length * envs.num_envs)
    return 1.0 / (per_step + ratio * per_update)
