"""Python API: train, resume, evaluate, record and load runs without a command line. See docs/python-api.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agents.errors import ConfigError
from agents.evaluate import Evaluation
from agents.run.tracking import TrackMode
from scripts.runner import custom_env, training
from scripts.runner.custom_env import EnvFactory
from scripts.runner.evaluation import evaluate_agent, evaluation_seed, save_episodes
from scripts.runner.results import TrainResult
from scripts.runner.run_record import read_record
from scripts.runner.saved_run import load_run, split_checkpoint
from scripts.runner.settings import resolve
from scripts.runner.trained_agent import TrainedAgent
from scripts.runner.watching import watch_run

__all__ = ["TrainedAgent", "evaluate", "load", "record_video", "resume", "train"]

PathLike = str | Path


def train(
    algorithm: str,
    env: str | EnvFactory,
    *,
    preset: str | None = None,
    run_dir: PathLike | None = None,
    initial_run: PathLike | None = None,
    videos: bool = False,
    track: TrackMode = "disabled",
    progress: bool | None = None,
    **settings: Any,
) -> TrainResult:
    """Train an agent and return its run folder, returns and learning curves.

    Args:
        algorithm: a name from `train.py --list`, such as "ppo" or "dqn".
        env: an environment id, or a function that returns a new `gym.Env`. A run with a function needs it again as
            `env=` wherever it is used.
        preset: a preset other than the one of the environment's family, such as "tiny".
        run_dir: the new run folder; by default one in runs/.
        initial_run: a run folder, or RUN/checkpoints/NAME, whose weights the training starts from.
        videos: record the agent before and after training.
        track: Weights & Biases: "disabled", "offline" or "online".
        progress: show the pre-flight, a live display and the closing lines; None shows them on a terminal only.
        settings: fields of the algorithm's config by name, such as `total_steps` (env steps, summed over
            environments), `seed`, `learning_rate`, `env_kwargs`; see `train.py ALGO --help`.

    Raises:
        ConfigError: for an unknown algorithm or setting (with the closest name), or an impossible value.
        EnvError: for an environment that does not exist or cannot be made.
        RunError: for a training that had to stop, with its last good checkpoint.
    """
    if "env_id" in settings:
        raise ConfigError("train() takes the environment as `env`, not as `env_id`")
    if isinstance(env, str):
        env_id = env
        custom_env.refuse_id(env_id)
    else:
        env_id = custom_env.env_name(env)
        custom_env.register(env_id, env)
    result = training.start(
        algorithm,
        resolve(algorithm, env_id, preset, settings),
        run_dir=_path(run_dir),
        tracking=training.TrackingSettings(track),
        videos=videos,
        initial_run=_path(initial_run),
        progress=_shown(progress),
    )
    assert result is not None  # only a dry run has none
    return result


def resume(
    run: PathLike,
    *,
    total_steps: int | None = None,
    env: EnvFactory | None = None,
    track: TrackMode | None = None,
    progress: bool | None = None,
) -> TrainResult:
    """Continue a run from its latest checkpoint, bit for bit on a CPU.

    Args:
        run: the run folder.
        total_steps: a larger budget, in env steps, counted from the start of the run. The extended run equals one of
            that budget from the start if no schedule depends on `total_steps`, the old budget is a multiple of
            `checkpoint_steps`, and it did not shorten the last rollout.
        env: the environment factory of a run that was trained with one.
        track: Weights & Biases; None keeps the run's own mode.
        progress: as for `train`.

    Raises:
        ConfigError: for a finished run without a larger budget, or a run that cannot be continued.
    """
    folder = _with_environment(run, env)
    return training.resume(folder, track, total_steps, progress=_shown(progress))


def evaluate(
    run: PathLike, *, episodes: int = 30, seed: int = 0, checkpoint: str = "latest", env: EnvFactory | None = None
) -> Evaluation:
    """Play full games with a run's agent, without exploration; `evaluate.py` gives the same numbers.

    Args:
        run: the run folder, or RUN/checkpoints/NAME.
        episodes: full games to play.
        seed: seed of the games.
        checkpoint: "latest", "best" or the name of a checkpoint.
        env: the environment factory of a run that was trained with one.

    Returns:
        Raw, undiscounted returns of all games with mean and standard deviation, lengths in agent steps, and the
        recorded games, which are also added to the run's replays/eval.jsonl.
    """
    if episodes < 1 or seed < 0:
        raise ConfigError("episodes must be at least 1 and seed not negative")
    saved = load_run(_with_environment(run, env), checkpoint)
    result = evaluate_agent(saved.agent, saved.config, episodes, evaluation_seed(seed))
    save_episodes(saved, "eval", result)
    return result


def record_video(
    run: PathLike,
    *,
    episodes: int = 1,
    seed: int = 0,
    checkpoint: str = "latest",
    scale: int = 1,
    out: PathLike | None = None,
    env: EnvFactory | None = None,
) -> list[Path]:
    """Record full games of a run's agent as MP4 videos; return their paths.

    Args:
        run: the run folder, or RUN/checkpoints/NAME.
        episodes: games, and videos.
        seed: seed of the first game; the next ones count on.
        checkpoint: "latest", "best" or the name of a checkpoint.
        scale: factor by which the picture is enlarged, 1 to 12.
        out: folder of the videos; by default RUN/videos.
        env: the environment factory of a run that was trained with one; it must have a `render_mode` parameter.
    """
    if episodes < 1 or not 1 <= scale <= 12 or seed < 0:
        raise ConfigError("episodes must be at least 1, scale 1 to 12, seed not negative")
    folder = _with_environment(run, env)
    return watch_run(
        folder, episodes=episodes, seed=seed, checkpoint=checkpoint, scale=scale, out=_path(out), progress=False
    )


def load(run: PathLike, checkpoint: str = "latest", *, env: EnvFactory | None = None) -> TrainedAgent:
    """Load a run's agent, to act on observations: `load(run).predict(obs)`.

    Args:
        run: the run folder, or RUN/checkpoints/NAME.
        checkpoint: "latest", "best" or the name of a checkpoint.
        env: the environment factory of a run that was trained with one.
    """
    saved = load_run(_with_environment(run, env), checkpoint)
    return TrainedAgent(saved.agent, saved.config, env)


def _with_environment(run: PathLike, factory: EnvFactory | None) -> Path:
    """Return the run's path, after registering the factory of its environment where it has one."""
    folder, _ = split_checkpoint(Path(run))
    custom_env.register_for_run(read_record(folder).config.env, factory, folder)
    return Path(run)


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _shown(progress: bool | None) -> bool:
    """Whether to show progress: as asked, or on a terminal only."""
    return sys.stdout.isatty() if progress is None else progress
