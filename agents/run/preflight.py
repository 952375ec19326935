"""The pre-flight: one screen before training with game, network, budget, memory and speed, and warnings of mistakes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium as gym
import torch
from gymnasium import spaces
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.build import frame_stack, replay_layout, spills
from agents.config import Mistake, ReplayConfig, TrainConfig
from agents.interface import GameSpec
from agents.learner import Learner
from agents.run import machine
from agents.run.speed import measure
from networks.files import closest_existing
from networks.observation_spaces import is_image, observation_bytes, parts_of
from networks.torsos.build import torso_name

BASE_MEMORY = 500_000_000
"""Bytes of Python, torch and the other libraries."""
ROW_SECONDS, LEARN_SECONDS = 0.3, 0.4
"""Seconds of one measurement of play, and of one of updates."""


@dataclass
class Plan:
    """Facts about a training by name, and warnings."""

    lines: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print the facts as a table, then the warnings."""
        table = Table(title="pre-flight", show_header=False, title_justify="left", box=None, padding=(0, 2))
        table.add_column()
        table.add_column(overflow="fold")  # a long path stays whole
        for name, value in self.lines.items():
            table.add_row(f"[bold]{name}[/]", escape(value))
        console.print(table)
        for warning in self.warnings:
            console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Needs:
    """Bytes that a training needs."""

    replay: int
    spilled: bool
    """Whether the replay's observations are in files on disk."""
    memory: int
    disk: int


def plan(agent: Learner, envs: gym.vector.VectorEnv, game: GameSpec, folder: Path) -> Plan:
    """Describe the training into `folder`; plays and learns for about a second with a copy of the agent."""
    config, space = agent.config, envs.single_observation_space
    needs = _needs(agent, envs)
    speed = agent.measure_speed(envs)
    if speed is None:
        speed = config.total_steps / measure(agent, envs, ROW_SECONDS, LEARN_SECONDS).of_training(config)
    free_memory, free_disk = machine.available_memory(), shutil.disk_usage(closest_existing(folder)).free
    arguments = ", ".join(f"{name} {value}" for name, value in config.env_kwargs.items())
    where = "replay in files on disk" if needs.spilled else "replay"
    replay = f"{needs.replay / 1e9:.3f} GB for {where} (exact), " if needs.replay else ""
    hardware = f"{agent.device}, {torch.get_num_threads()} threads, {'bf16' if agent.bf16 else 'fp32'}"
    lines = {
        "game": f"{config.env}{' with ' if arguments else ''}{arguments} under the protocol {game.protocol.name} "
        f"(fingerprint {game.fingerprint})",
        "observation": str(space),
        "network": _network(agent),
        "note": smaller_than_published(config, game),
        "training": f"{config.total_steps:,} env steps in {config.num_envs} environments, {config.updates_line()}",
        "schedule": config.schedule_line(),
        "checkpoints": f"every {config.checkpoint_steps:,} env steps, in {folder}",
        "memory": f"{replay}about {needs.memory / 1e9:.1f} GB in all; {free_memory / 1e9:.1f} GB are free",
        "disk": f"up to {needs.disk / 1e9:.2f} GB; {free_disk / 1e9:.0f} GB are free",
        "predicted": f"{speed:,.0f} env steps/s on {hardware}: done in {_until(config, config.total_steps / speed)}",
    }
    warnings = warnings_for(config, space, game)
    if needs.memory > free_memory:
        warnings.append(f"this needs more memory than is free; lower {config.replay_option} or --num-envs")
    if needs.disk > free_disk:
        warnings.append("this needs more disk than is free; choose another --run-dir or a smaller replay")
    return Plan({name: line for name, line in lines.items() if line or name != "note"}, warnings)


def _needs(agent: Learner, envs: gym.vector.VectorEnv) -> Needs:
    """Return the bytes of replay (exact), memory and disk (estimates); raise ConfigError for an impossible replay."""
    config = agent.config
    layout = replay_layout(config, envs, agent.carry_dim)
    replay = config.replay_bytes(envs.single_observation_space, frame_stack(envs), agent.carry_dim)
    spilled = layout is not None and isinstance(config, ReplayConfig) and spills(layout, config.replay_storage)
    model = sum(p.numel() * p.element_size() for m in agent.modules().values() for p in m.parameters())
    rollout = 3 * config.rows_in_memory * config.num_envs * observation_bytes(envs.single_observation_space)
    memory = BASE_MEMORY + (0 if spilled else replay) + 6 * model + rollout
    # four checkpoints (two recent ones, the best, one being written) of weights and Adam's two moments
    disk = 4 * 3 * model + replay * (2 if spilled else 1) + config.total_steps * 2
    return Needs(replay, spilled, memory, disk)


def warnings_for(config: TrainConfig, space: spaces.Space, game: GameSpec) -> list[str]:
    """Return one line for every known mistake that was made in these settings."""
    return [mistake.line for mistake in known_mistakes(config, space, game).values() if mistake.made]


def known_mistakes(config: TrainConfig, space: spaces.Space, game: GameSpec) -> dict[str, Mistake]:
    """Return the mistakes that these settings allow, made or not: those of every agent, then those of this one."""
    image = any(is_image(part) for part in parts_of(space))
    return {
        "flat images": Mistake(
            image and config.torso == "mlp",
            "the observation is an image but --torso mlp flattens it; use --torso auto",
        ),
        "hidden lives": Mistake(
            config.life_loss_ends and game.protocol.frame_skip > 1 and not game.protocol.life_information,
            f"--life-loss-ends has no effect: the protocol {game.protocol.name} hides lives",
        ),
        "frequent checkpoints": Mistake(
            config.checkpoint_steps // config.num_envs < 500 and config.total_steps > config.checkpoint_steps,
            "checkpoints truncate all episodes every few hundred steps of each environment; raise --checkpoint-steps",
        ),
        "memory of stacked frames": Mistake(  # with observe_last, as R2D2 was published
            image and game.frame_stack > 1 and config.core != "none" and not config.observe_last,
            "a memory on stacked frames sees each frame several times: it learns, but at a higher cost",
        ),
        "unclipped rewards": Mistake(
            game.family == "atari" and not config.bounds_reward_scale and config.input_norm == "scale",
            "rewards are not clipped; games with large scores may need --clip-rewards",
        ),
    } | config.mistakes()


def smaller_than_published(config: TrainConfig, game: GameSpec) -> str:
    """Return a caveat for an Atari agent with smaller frames or a smaller network than in the literature, or ''."""
    if game.family != "atari":
        return ""
    size, network = game.protocol.image_size, config.torso
    parts = [f"frames of {size}x{size}"] if size < 84 else []
    parts += [f"the small network {network}"] if network == "pong-small" else []
    return f"{' and '.join(parts)}: not comparable with published results (84x84, Nature CNN)" if parts else ""


def _network(agent: Learner) -> str:
    name = agent.config.torso if agent.config.torso != "auto" else torso_name(agent.observation_space)
    count = sum(parameter.numel() for parameter in agent.model.parameters())
    core = f" + {agent.config.core} of {agent.config.core_size}" if agent.config.core != "none" else ""
    return f"{name}{core}, {count:,} parameters, inputs by {agent.config.input_norm}"


def _until(config: TrainConfig, seconds: float) -> str:
    """Return how long the training takes; most often less if it stops at a score."""
    if config.stop_return is None:
        return f"about {_duration(seconds)}"
    score = f"a mean score of {config.stop_return:g} over {config.stop_episodes} games"
    return f"at most {_duration(seconds)} (stops at {score})"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds" if seconds >= 1.5 else "a second"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
