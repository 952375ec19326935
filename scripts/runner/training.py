"""One training from its pre-flight to its last line: what `train.py` calls."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from agents import build
from agents.config import TrainConfig
from agents.errors import ConfigError, RunError
from agents.learner import Learner
from agents.presets.registry import ALGORITHMS
from agents.replay.buffer import Replay, ReplayLayout
from agents.run import checkpoint, machine, preflight, provenance
from agents.run.display import Display
from agents.run.run import Run
from agents.run.tracking import Labels, NoTracker, Tracker, TrackMode, make_tracker, new_run_id
from envs.action_replays import RecordEpisodes
from scripts.report.page import write_report
from scripts.runner import encoders, teacher_reward
from scripts.runner.environments import environments
from scripts.runner.evaluation import judge
from scripts.runner.results import TrainResult
from scripts.runner.saved_run import config_of, load_run, read_record, run_record
from scripts.runner.watching import record_video

RUNS = Path(__file__).resolve().parents[2] / "runs"
EVAL_SEED = 1_000_003
"""Added to a run's seed for evaluation during training, so that judged games are never trained on."""


@dataclass(frozen=True)
class TrackingSettings:
    """Tracking on Weights & Biases, beside the run's own files."""

    track: TrackMode = "offline"
    """offline (a folder to `wandb sync` later), online, or disabled."""
    project: str = "joypad"
    """Project on W&B."""
    group: str | None = None
    """Runs that belong together; None groups by algorithm and game (ALGO__ENV)."""
    tags: tuple[str, ...] = ()
    """Tags beside algorithm, game and protocol."""


def start(
    algorithm: str,
    config: TrainConfig,
    *,
    run_dir: Path | None = None,
    tracking: TrackingSettings = TrackingSettings(),
    videos: bool = False,
    dry_run: bool = False,
) -> TrainResult | None:
    """Train from scratch in `run_dir` (default: a new folder in runs/); None after a dry run.

    Raises ConfigError for settings that cannot work, RunError for a training that had to stop.
    """
    console = Console()
    folder = run_dir or RUNS / run_name(algorithm, config)
    if (folder / "config.json").exists():
        raise ConfigError(f"{folder} already holds a run; go on with it by --resume, or choose another --run-dir")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give --run-dir a folder")
    envs = teacher_reward.add_teacher_reward(environments(config, config.num_envs), config)
    facts = build.resolve_machine(config, envs)
    # refuse what cannot be had before Stable-Baselines3 allocates it
    config.replay_bytes(envs.single_observation_space, build.frame_stack(envs), 0)
    agent = build.build_agent(algorithm, config, envs, facts)
    preflight.plan(agent, envs, envs.game, folder).show(console)
    facts_of_encoders = encoders.about(config)
    for key, told in facts_of_encoders.items():
        words = f"{told['arch']} of {told['task']}, {told['mode']}; trained on {told['env_frames']:,} env frames"
        console.print(f"  encoder of '{key}': {words}", highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        return None
    layout = build.replay_layout(config, envs, agent.carry_dim)
    replay = _replay(config, layout, agent, folder)
    build.center_inputs(agent, envs, config.seed)
    record = run_record(algorithm, config, envs, facts)
    record |= {"run_id": new_run_id(), "track": tracking.track, "videos": videos}
    labels = Labels(tracking.project, tracking.group or f"{algorithm}__{config.env}", tracking.tags)
    record |= {"labels": asdict(labels), "encoders": facts_of_encoders}
    try:
        run = _run(folder, encoders.kept(config, folder), NoTracker(), console)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}); choose another --run-dir") from error
    encoders.keep(config, folder)
    run.checkpoint(agent, None, replay)
    _write_folder(folder, record)  # what makes the folder a run comes once there is something to resume from
    run.tracker = make_tracker(record["track"], folder, record["run_id"], _tracked(record), labels)
    if record["videos"]:
        _video(agent, run, "untrained", console)
    return _train(agent, envs, replay, run, record, console)


def resume(folder: Path, track: TrackMode | None = None) -> TrainResult:
    """Continue from the latest checkpoint, bit for bit on a CPU; `track` None keeps the run's own tracking."""
    console = Console()
    record = read_record(folder)
    config = config_of(folder, record)
    if not ALGORITHMS[record["algo"]][1].resumable:
        raise ConfigError(f"{folder} is of Stable-Baselines3, which cannot go on in the middle; train it anew")
    envs = teacher_reward.add_teacher_reward(environments(config, config.num_envs), config)
    saved = load_run(folder, "latest", envs)
    wanted, recent = config.stop_return, saved.state["returns"][-config.stop_episodes :]
    if wanted is not None and len(recent) == config.stop_episodes and sum(recent) / len(recent) >= wanted:
        raise ConfigError(f"{folder} is solved: its last {len(recent)} games reached {wanted:g}")
    if saved.state["env_steps"] >= config.total_steps:
        raise ConfigError(f"{folder} has already trained for its {config.total_steps:,} env steps")
    layout = build.replay_layout(config, envs, saved.agent.carry_dim)
    replay = _replay(config, layout, saved.agent, folder)
    if replay is not None:
        checkpoint.load_replay(saved.checkpoint, saved.state, replay)
    mode = track or record["track"]
    run = _run(folder, config, NoTracker(), console)
    run.restore(saved.state)
    labels = Labels(**record.get("labels", {}))
    run.tracker = make_tracker(mode, folder, record["run_id"], _tracked(record), labels)
    console.print(f"resuming {folder.name} at env step {run.env_steps:,}", highlight=False)
    if str(saved.agent.device) != record["machine_facts"]["device"]:
        console.print(f"{record['machine_facts']['device']} is missing here: going on with {saved.agent.device}")
    if saved.agent.device.type == "cuda":
        console.print("on CUDA the continued run is equivalent, but not bit for bit the unbroken one")
    for difference in _elsewhere(record):
        console.print(f"not exactly as before: {difference}", highlight=False)
    return _train(saved.agent, envs, replay, run, record, console)


def _replay(config: Any, layout: ReplayLayout | None, agent: Learner, folder: Path) -> Replay | None:
    """Allocate the replay that `layout` asks for, where there is one."""
    if layout is None:
        return None
    return build.build_replay(layout, agent.device, config.replay_storage, preflight.existing(folder))


def _elsewhere(record: dict[str, Any]) -> list[str]:
    """Return what has changed since the run began that can change its bits: libraries and processor."""
    now = {**machine.versions(), "processor": machine.hardware()["processor"]}
    then = {**record["versions"], "processor": record["machine"]["processor"]}
    return [f"{name} was {then[name]}, is {now.get(name)}" for name in then if now.get(name) != then[name]]


def run_name(algorithm: str, config: TrainConfig) -> str:
    """<algo>__<env>__s<seed>__<time>."""
    name = config.env.replace("/", "-")
    return f"{algorithm}__{name}__s{config.seed}__{time.strftime('%Y%m%d-%H%M%S')}"


def _write_folder(folder: Path, record: dict[str, Any]) -> None:
    temporary = folder / "config.json.tmp"
    temporary.write_text(json.dumps(checkpoint.add_digest(record), indent=1))
    temporary.replace(folder / "config.json")
    patch = provenance.diff()
    if patch:
        (folder / "git.diff").write_text(patch + "\n")


def _tracked(record: dict[str, Any]) -> dict[str, Any]:
    card = {"fingerprint": record["card"]["fingerprint"], "protocol": record["card"]["protocol"]["name"]}
    return {"algo": record["algo"], "env_id": record["env_id"], **record["config"], **card}


def _run(folder: Path, config: TrainConfig, tracker: Tracker, console: Console) -> Run:
    display = Display(config.total_steps, config.env, config.stop_return, console)
    evaluate = None
    if config.eval_episodes:

        def evaluate(agent: Learner) -> dict[str, float]:
            result = judge(agent, config, config.eval_episodes, config.seed + EVAL_SEED)
            for record in result.records:
                run.write("replays/judged.jsonl", record.to_json(kind="eval", env_steps=run.env_steps))
            return {"eval/return_mean": result.return_mean, "eval/return_std": result.return_std}

    run = Run(folder, config, tracker, display, evaluate)
    return run


def _train(
    agent: Learner, envs: RecordEpisodes, replay: Replay | None, run: Run, record: dict[str, Any], console: Console
) -> TrainResult:
    """Train, then say how it went and where everything is."""
    try:
        assert run.display is not None
        with run.display:
            agent.train(envs, run, replay)
    except (RuntimeError, ValueError) as error:
        # sampling from a policy of NaN is torch's own error; others that are not ours are bugs, and show as such
        if not isinstance(error, RunError | ValueError) and "probability tensor" not in str(error):
            raise
        where = checkpoint.non_finite(agent)
        last = checkpoint.resolve(run.folder / "checkpoints").name
        module = f"; the first bad numbers are in {where}" if where else ""
        step = "" if isinstance(error, RunError) else f" at env step {run.env_steps:,}"
        raise RunError(f"{error}{step}{module}; the last good checkpoint is {run.folder}/checkpoints/{last}") from error
    finally:
        run.close()
        envs.close()
    if record["videos"] and not run.signalled:
        _video(agent, run, "trained", console)
    _farewell(run, agent.resumable, preflight.smaller_than_published(run.config, envs.game), console)
    return TrainResult(run.folder, run.env_steps, tuple(run.returns), run.solved, run.signalled, run.wall_seconds)


def _video(agent: Learner, run: Run, name: str, console: Console) -> None:
    """Record one game; a failure to do so is told, and does not end the training."""
    try:
        path = run.folder / "videos" / f"{name}_step_{run.env_steps:012d}.mp4"
        video = record_video(agent, run.config, path, seed=run.config.seed + EVAL_SEED)
        run.tracker.video(f"video/{name}", path)
        console.print(f"video of the {name} agent, score {video.score:g}: {path}", highlight=False)
    except (OSError, ValueError, RuntimeError) as error:
        warnings.warn(f"no video of the {name} agent: {error}", stacklevel=2)


def _farewell(run: Run, resumable: bool, small: str, console: Console) -> None:
    """Say how it went, where everything is, and how to go on."""
    recent = list(run.returns)[-run.config.stop_episodes :]
    mean = sum(recent) / len(recent) if recent else float("nan")
    how = "solved" if run.solved else "stopped" if run.signalled else "done"
    games = f"mean of the last {len(recent)} games {mean:.2f}" if recent else "no game has ended yet"
    console.print(f"{how} after {run.env_steps:,} env steps and {run.wall_seconds:.0f} s: {games}", highlight=False)
    if small:
        console.print(small, highlight=False)
    lines = {"run": run.folder, "videos": run.folder / "videos" if (run.folder / "videos").is_dir() else None}
    try:
        page = lines["report"] = write_report([run.folder], run.folder / "report.html")
        run.tracker.report(page)
    except (OSError, ValueError) as error:
        warnings.warn(f"no report: {error}", stacklevel=2)
    lines["W&B folder"] = run.tracker.finish()
    for name, path in lines.items():
        if path is not None:
            console.print(f"  {name:<11}{path}", highlight=False, soft_wrap=True)
    if run.signalled and resumable:
        console.print(f"  go on with: python scripts/train.py --resume {run.folder}", highlight=False, soft_wrap=True)
